"""The INT8 part of ``lfm-deploy build``: the search, and its table."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfm_deploy.cli.console import make_console, progress_bar, say
from lfm_deploy.workdir import Workdir

if TYPE_CHECKING:
    from calib.findings_schema import Findings, FlipEstimateValues
    from calib.layer_times import RtxTarget


def quantise(
    workdir: Workdir,
    target: str,
    budget: str | None,
    layers: str,
    images: Path | None,
    as_json: bool,
    rtx: "RtxTarget | None" = None,
) -> "Findings":
    """Make the INT8 graph of a target and print what the search found; also where it found nothing.

    Raises:
        NoGainError: INT8 is not faster than FP16 with tensorrt-rtx on the GPUs that were asked for.
        BudgetError: no graph keeps to the budget; the table is printed before.
    """
    from calib.int8_graph import quantise_into
    from calib.layer_choice import BudgetError
    from lfm_deploy.quantisation import Budget, Recipe

    recipe = Recipe.CPU if target == "cpu" else Recipe.TENSORRT
    allowed = Budget.parse(budget) if budget else Budget()
    try:
        with progress_bar() as update:
            made = quantise_into(
                workdir,
                recipe,
                allowed,
                layers_asked=layers,
                images=images,
                target=rtx,
                on_message=say,
                on_progress=update,
            )
    except BudgetError as error:
        print_findings(error.result.as_dict(), str(workdir.path), to_stderr=as_json)
        raise
    if made.reused:
        say(f"{made.path}: made from the same ranges, budget and versions before; kept")
    if not as_json:
        print_findings(made.findings, str(made.path), to_stderr=False)
    if not made.findings["within_budget"]:
        say(f"Warning: {made.path.name} breaks the budget {allowed}; it is marked, and verify fails it")
    return made.findings


def print_findings(findings: "Findings", title: str, *, to_stderr: bool) -> None:
    """Every layer with its precision and why, and how the result stands to its budget."""
    from rich.text import Text

    from lfm_deploy.report.figures import show_decibels
    from lfm_deploy.report.tables import make_table

    share = 100 * findings["int8_share"]
    heading = f"{title}: INT8 for {findings['recipe']}, {share:.1f} % of the multiply-adds"
    table = make_table(heading, "layer")
    for name, right in (("is", False), ("work", True), ("alone", True), ("without", True), ("SNR", True)):
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    table.add_column("why", overflow="fold")
    total = sum(layer["multiply_adds"] for layer in findings["layers"].values())
    for name, layer in findings["layers"].items():
        table.add_row(
            name,
            Text(layer["precision"], style="green" if layer["precision"] == "int8" else "yellow"),
            f"{100 * layer['multiply_adds'] / total:.0f} %",
            _show(layer["only"]["flips"], ".2f", " %"),
            _show(layer["without"]["flips"], ".2f", " %"),
            show_decibels(layer),
            layer["why"],
        )
    table.caption = (
        "alone, without: flips estimated with only this layer, or all but it, in INT8; SNR: of what the layer reads"
    )
    console = make_console(to_stderr=to_stderr)
    console.print(table)
    _print_budget(findings, console)
    if not findings["within_budget"]:
        console.print(Text("outside the budget", style="bold red"))


def _print_budget(findings: "Findings", console: Any) -> None:
    """How the graph without INT8, and that with it, stand to what is allowed."""
    budget = findings["budget"]
    rows = [("FP32" if findings["recipe"] == "cpu" else "FP16", findings["base"])]
    if findings["trials"] and findings["trials"][-1]["judged_by"]:
        rows.append(("INT8", findings["trials"][-1]["judged_by"]))
    for name, estimate in rows:
        flips, acc, ap = _show(estimate["flips"], ".2f"), _show(estimate["acc"], "+.3f"), _show(estimate["ap"], "+.3f")
        console.print(
            f"{name} on {estimate['pictures']} pictures{_of_sources(name, estimate)}: flips {flips} % (95 %: "
            f"{_show(estimate['flips_low'], '.2f')} to {_show(estimate['flips_high'], '.2f')}, at most "
            f"{_show(estimate['worst'], '.2f')} on {estimate['worst_source']}; allowed {budget['flips']:g}), ACC {acc} "
            f"({budget['acc']:g}), AP {ap} ({budget['ap']:g}) points; seen flips {estimate['seen_flips']}",
            soft_wrap=True,
            markup=False,
        )
        if band := estimate.get("band"):
            console.print(
                f"{name}: {_show(band['share'], '.2f')} % cross the lower end of the band (95 %: "
                f"{_show(band['low'], '.2f')} to {_show(band['high'], '.2f')}, at most "
                f"{_show(band['worst'], '.2f')} on {band['worst_source']}; allowed {budget['flips']:g})",
                soft_wrap=True,
                markup=False,
            )


def _of_sources(name: str, estimate: "FlipEstimateValues") -> str:
    """Over what the estimate of a graph speaks."""
    if estimate["sources"] == 1:
        return " of one source, in halves that did not choose" if name == "INT8" else " of one source"
    return f" of {estimate['sources']} sources" + (", each left out in turn" if name == "INT8" else "")


def _show(value: float | None, form: str, unit: str = "") -> str:
    """A figure, or a dash where it is undefined."""
    return "-" if value is None else f"{value:{form}}{unit}"
