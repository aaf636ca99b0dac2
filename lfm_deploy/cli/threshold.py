"""``lfm-deploy threshold``: the threshold that keeps false accusations below a rate, written into the workdir."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfm_deploy.cli.console import (
    FOLDER,
    json_option,
    make_console,
    print_json,
    progress_bar,
    say,
    size_option,
    workdir_option,
)
from lfm_deploy.workdir import Workdir

if TYPE_CHECKING:
    from lfm_deploy.contract import SizePolicy
    from lfm_deploy.thresholds.measurement import ChosenThreshold
    from lfm_deploy.thresholds.threshold_values import SharesValues, ShareValues, ThresholdValues, VerdictName

_SAME = "same"
_LISTED = 5


class _Rate(click.ParamType[float]):
    """A share, as per cent or as a fraction."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The fraction; that of ``_SAME`` is chosen later."""
        text = str(value).strip()
        try:
            rate = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            rate = 0.0
        if not 0 < rate < 1:
            self.fail(f"{text!r} is no share between 0 and 1; write 1% or 0.01", param, ctx)
        return rate


class _BandRate(_Rate):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == _SAME else super().convert(value, param, ctx)


@click.command("threshold")
@click.argument("pictures", metavar="PICTURES")
@click.option("--fpr", type=_Rate(), required=True, metavar="RATE", help="Real pictures that may be called fake: 1%.")
@click.option(
    "--band",
    type=_BandRate(),
    is_flag=False,
    flag_value=_SAME,
    metavar="[RATE]",
    help="Give no verdict between this threshold and a lower one, which calls at most RATE of the fakes real.  "
    "[RATE: that of --fpr]",
)
@click.option("--each-group", is_flag=True, help="Keep the rate in each test set, not in all pictures together.")
@click.option("--data", type=FOLDER, help="Where the published suites lie.  [default: $LFM_DATA or ./data]")
@size_option
@click.option("--batch", type=click.IntRange(1, 4096), default=32, show_default=True, help="Pictures at a time.")
@click.option("--dry-run", is_flag=True, help="Say what the threshold would be, and write nothing.")
@workdir_option
@json_option
def command(
    pictures: str,
    fpr: float,
    band: float | str | None,
    each_group: bool,
    data: Path | None,
    size: "SizePolicy | None",
    batch: int,
    dry_run: bool,
    workdir: Workdir,
    as_json: bool,
) -> None:
    """Choose the threshold that keeps false accusations below a rate, and write it into every artifact.

    PICTURES is a folder with 0_real/ in it, better with 1_fake/ too, or with such folders; a list (.csv), or a suite.
    The share of real pictures like these that is called fake stays below RATE, with 95 % confidence by an exact bound.
    predict and verify then decide at this threshold; inspect shows it with its origin.
    """
    from engines.host import keep_freed_memory
    from lfm_deploy.thresholds.measurement import threshold
    from lfm_deploy.thresholds.threshold_values import describe_choice

    keep_freed_memory()
    with progress_bar() as update:
        found = threshold(
            pictures,
            fpr,
            workdir=workdir,
            miss_rate=fpr if band == _SAME else band,  # type: ignore[arg-type]  # a number, where it is not that word
            each_group=each_group,
            size=size,
            data=data,
            batch=batch,
            write=not dry_run,
            on_message=say,
            on_progress=update,
        )
    values = describe_choice(found.choice, found.origin, found.engine)
    if as_json:
        print_json(values)
    else:
        _print(values)
    _say_rest(found, workdir)


def _print(values: "ThresholdValues") -> None:
    from lfm_deploy.report.tables import make_table
    from lfm_deploy.thresholds.threshold_values import VERDICTS

    console = make_console()
    origin, low = values["origin"], values["uncertain_above"]
    console.print(f"threshold {values['threshold']:g}: a logit above it is fake", style="bold")
    if low is not None:
        console.print(f"up to {low:g} the verdict is real, between the two it is uncertain")
    elif origin["miss_rate"] is not None:
        console.print("no band is needed: at this threshold both rates are kept")
    table = make_table("", "pictures", "of them")
    table.title = None
    for heading in (f"at {values['threshold']:g}", "95 % sure: at most", "at 0"):
        table.add_column(heading, justify="right")
    for key, kind, what in VERDICTS:
        share, before = values["all"][key], values["at_zero"][key]
        if share is None or ("uncertain" in key and low is None):
            continue
        zero = "-" if before is None or "uncertain" in key else _show(before)
        bound = f"{share['bound']:.2f} %" if key in ("real_called_fake", "fake_called_real") else "-"
        table.add_row(f"{share['pictures']:,} {kind}", what, _show(share), bound, zero)
    console.print(table)
    _print_groups(values)
    console.print(
        f"to claim {100 * origin['rate']:g} % takes {values['need']:,} real pictures, none of them called fake; these "
        f"are {origin['real']:,}"
    )


def _print_groups(values: "ThresholdValues") -> None:
    from lfm_deploy.report.tables import make_table

    if not values["groups"]:
        return
    console = make_console()
    table = make_table("", "group")
    table.title = None
    for heading in ("real", "called fake %", "95 %", "fake", "found %", "95 %"):
        table.add_column(heading, justify="right")
    for group in values["groups"]:
        table.add_row(group["name"], *_cells(group, "real_called_fake"), *_cells(group, "fake_called_fake"))
    console.print(table)
    if values["worst"] is not None:
        worst = next(group for group in values["groups"] if group["name"] == values["worst"])
        share = worst["real_called_fake"]
        if share is not None:
            console.print(f"worst group: {worst['name']}, {_show(share)} of its {share['pictures']:,} real pictures")


def _cells(group: "SharesValues", key: "VerdictName") -> tuple[str, str, str]:
    share = group[key]
    if share is None:
        return "-", "-", "-"
    estimate = share["share"]
    return str(share["pictures"]), f"{estimate['value']:.1f}", f"{estimate['low']:.1f}-{estimate['high']:.1f}"


def _show(share: "ShareValues") -> str:
    estimate = share["share"]
    return f"{estimate['value']:.2f} % [{estimate['low']:.2f}, {estimate['high']:.2f}]"


def _say_rest(found: "ChosenThreshold", workdir: Workdir) -> None:
    for picture in found.skipped[:_LISTED]:
        say(f"skipped: {picture.path}: {picture.reason}")
    if len(found.skipped) > _LISTED:
        say(f"… and {len(found.skipped) - _LISTED} more that cannot be judged")
    if found.stamped is None:
        say("nothing was written (--dry-run)")
        return
    names = ", ".join(path.name for path in (*found.stamped.files, workdir.threshold))
    say(f"written: {names}; verify judges the gates at this threshold")
    for line in found.stamped.to_renew:
        say(line)
