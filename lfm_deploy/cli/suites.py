"""``lfm-deploy suites``: the published test suites, and a check of what is there of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfm_deploy.cli.console import (
    FOLDER,
    json_option,
    make_console,
    max_pixels_option,
    print_json,
    progress_bar,
    size_option,
)

if TYPE_CHECKING:
    from lfm_deploy.contract import SizePolicy
    from lfm_deploy.suites.survey import SetSurvey, SuiteSurvey

NOT_FINE = 1
_LISTED = 5


@click.command("suites")
@click.argument("suites", metavar="[SUITE|FOLDER|LIST.csv]...", nargs=-1)
@click.option(
    "--data",
    type=FOLDER,
    help="Folder of the published suites, to be read and checked.  [default: $LFM_DATA or ./data]",
)
@size_option
@max_pixels_option
@json_option
def command(suites: tuple[str, ...], data: Path | None, size: "SizePolicy | None", as_json: bool) -> int:
    """Show the published test suites, or look at what is there.

    Without options, it says where each suite comes from and in which folders its pictures must lie. With --data, or
    with suites, folders or lists, it reads every picture, and says what is missing, unreadable, or in both classes; if
    anything is, the exit code is 1. It warns where real pictures and fakes are stored differently.
    """
    if data is None and not suites:
        _describe(as_json)
        return 0
    from lfm_deploy.suites.survey import survey_suites

    with progress_bar() as update:
        found = [
            survey
            for name in dict.fromkeys(suites or ("all",))
            for survey in survey_suites(name, data, size=size, on_progress=update)
        ]
    if as_json:
        print_json([_as_values(survey) for survey in found])
    else:
        for survey in found:
            _print(survey)
    return 0 if all(survey.is_fine for survey in found) else NOT_FINE


def _describe(as_json: bool) -> None:
    """Source, size policy and expected tree of every published suite."""
    from lfm_deploy.suites import GROUPS, describe_suites, expected_tree

    specs = describe_suites()
    if as_json:
        print_json(
            [
                {
                    "suite": spec.name,
                    "folder": spec.folder,
                    "size": spec.size,
                    "sets": list(spec.sets),
                    "source": spec.source,
                    "tree": expected_tree(spec, Path("DATA")),
                }
                for spec in specs
            ]
        )
        return
    from rich.padding import Padding
    from rich.text import Text

    console = make_console()
    for spec in specs:
        console.print(Text(f"{spec.name}: {len(spec.sets)} test sets, {_name_size(spec.size)}", style="bold"))
        console.print(Padding(Text(f"data: {spec.source}"), (0, 0, 0, 2), expand=False))
        console.print(Padding(Text(expected_tree(spec, Path("DATA"))), (0, 0, 1, 2), expand=False))
    for group, members in GROUPS.items():
        console.print(Text.assemble((group, "bold"), f": {', '.join(members)}"))
    console.print(
        "\nverify --suite takes each name, and what is your own: a folder like\n"
        "<test set>/[category/]{0_real,1_fake}/, or a list, a .csv file with the header\n"
        "path,label[,set[,category]].\n"
        "'lfm-deploy suites --data DATA' looks at what is there."
    )


def _print(survey: "SuiteSurvey") -> None:
    """A table of test sets, then a line for each thing that is wrong; where nothing is there, how it must lie."""
    from rich.padding import Padding
    from rich.text import Text

    from lfm_deploy.suites import expected_tree

    console = make_console()
    pictures = sum(part.real + part.fake for part in survey.sets)
    console.print(Text(f"{survey.name}: {_name_size(survey.size)}, {pictures} pictures", style="bold"))
    if any(part.missing is None or part.real or part.fake for part in survey.sets):
        console.print(Padding(Text(f"in {survey.place}"), (0, 0, 0, 2), expand=False))
        console.print(_make_set_table(survey))
    for real, fake in survey.in_both_classes[:_LISTED]:
        console.print(Text(f"  the same pixels are real and fake: {real} and {fake}", style="red"), soft_wrap=True)
    _print_rest(console, len(survey.in_both_classes))
    unreadable = [picture for part in survey.sets for picture in part.unreadable]
    for picture in unreadable[:_LISTED]:
        console.print(Text(f"  unreadable: {picture.path}: {picture.reason}", style="red"), soft_wrap=True)
    _print_rest(console, len(unreadable))
    for confounder in survey.confounders:
        console.print(Text(f"  warning: {confounder}", style="yellow"), soft_wrap=True)
    if text := survey.left_out.describe():
        console.print(Text(f"  {text}", style="dim"), soft_wrap=True)
    missing = [part.name for part in survey.sets if part.missing is not None]
    if survey.spec is not None and missing:
        names = "all test sets" if len(missing) == len(survey.sets) else ", ".join(missing)
        console.print(Padding(Text(f"missing: {names}", style="red"), (0, 0, 0, 2), expand=False))
        console.print(Padding(Text(f"data: {survey.spec.source}"), (0, 0, 0, 2), expand=False))
        if len(missing) == len(survey.sets):
            tree = Text(expected_tree(survey.spec, survey.place.parent))
            console.print(Padding(tree, (0, 0, 0, 2), expand=False))
    console.print()


def _make_set_table(survey: "SuiteSurvey") -> Any:
    from lfm_deploy.report.tables import make_table

    table = make_table("", "test set")
    table.title = None
    for heading in ("real", "fake", "unreadable", "repeated"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("state")
    for part in survey.sets:
        table.add_row(part.name, *_figures(part), _state(part))
    return table


def _print_rest(console: Any, count: int) -> None:
    if count > _LISTED:
        console.print(f"  … and {count - _LISTED} more, all with --json")


def _figures(part: "SetSurvey") -> list[str]:
    counts = (part.real, part.fake, len(part.unreadable), part.repeated)
    return ["-" if part.missing == "no such folder" else str(count) for count in counts]


def _state(part: "SetSurvey") -> Any:
    from rich.text import Text

    if part.missing is not None:
        return Text("missing" if part.missing == "no such folder" else part.missing, style="red")
    if part.unreadable:
        return Text("not all can be read", style="red")
    return Text(f"{len(part.categories)} categories" if part.categories else "", style="dim")


def _name_size(size: "SizePolicy") -> str:
    return "native size" if size == "native" else f"{size}x{size} pixels"


def _as_values(survey: "SuiteSurvey") -> dict[str, Any]:
    """A survey as plain values for JSON."""
    return {
        "suite": survey.name,
        "size": survey.size,
        "place": str(survey.place),
        "source": None if survey.spec is None else survey.spec.source,
        "fine": survey.is_fine,
        "sets": [
            {
                "set": part.name,
                "real": part.real,
                "fake": part.fake,
                "categories": list(part.categories),
                "missing": part.missing,
                "unreadable": [{"path": str(one.path), "reason": one.reason} for one in part.unreadable],
                "repeated": part.repeated,
            }
            for part in survey.sets
        ],
        "left_out": dict(survey.left_out),
        "in_both_classes": [{"real": str(real), "fake": str(fake)} for real, fake in survey.in_both_classes],
        "confounders": [confounder.as_dict() for confounder in survey.confounders],
    }
