"""The report as tables on a terminal; a view of the JSON."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lfm_deploy.report.engine_schema import GateValues
from lfm_deploy.report.envelope_table import print_envelope
from lfm_deploy.report.figures import (
    NONE,
    show_estimate,
    show_fps,
    show_need,
    show_number,
    show_probability,
    value_of,
)
from lfm_deploy.report.findings import (
    ColumnFigures,
    comparison_of,
    decoders_in_words,
    engines_compared,
    engines_that_ran,
    flipped_pictures,
    gates_to_look_at,
    outcome_of,
    published_beside,
    published_tables,
    reasons_not_run,
    suite_of,
)
from lfm_deploy.report.schema import Report, SuiteValues
from lfm_deploy.report.tables import make_table
from lfm_deploy.suites.published import PublishedValues

_LISTED = 5
# Below these widths an interval is given as the distance to its further end.
_WIDE, _ROOMY = 100, 110
_SHORT = "± to the further end of the 95 % interval"
_STYLES = {"passed": "bold green", "failed": "bold red", "undecided": "bold yellow", "nothing": "bold red"}
_OUTCOMES = {"holds": "green", "fails": "bold red", "undecided": "yellow"}


def print_report(report: Report, console: Console) -> None:
    """The report for a terminal: verdict first, what does not hold and what was left out last."""
    verdict = report["verdict"]
    console.print(Text(verdict["text"], style=_STYLES[verdict["outcome"]]))
    console.print(Text(verdict["threshold"]))
    short = console.width < _WIDE
    console.print()
    for suite in report["suites"] if engines_that_ran(report) else ():
        _print_table(console, _decision_table(report, suite, short))
        if engines_compared(report):
            _print_table(console, _change_table(report, suite, console.width < _ROOMY))
        if len(suite["sets"]) > 1:
            _print_table(console, _set_table(report, suite, short))
    for title, published in published_tables(report).items() if engines_that_ran(report) else ():
        _print_published(report, title, published, console)
    _print_lines(console, "decoders", decoders_in_words(report))
    _print_speeds(report, console)
    if report["envelope"] is not None:
        print_envelope(report["envelope"], console)
    if report["aligned"] is not None:
        print_envelope(report["aligned"], console, title="fakes stored as real pictures, by")
    _print_gates(report, console)
    for reason, names in reasons_not_run(report):
        console.print(Text(f"not run, {reason}: {', '.join(names)}", style="dim"))
    for line in report["advice"]:
        console.print(Text(line, style="bold"))
    _print_flips(report, console)
    twice = [f"{one['real']} = {one['fake']}" for suite in report["suites"] for one in suite["in_both_classes"]]
    _print_lines(console, "in both classes, so that one label is wrong", twice)
    _print_confounders(report, console)
    for suite in report["suites"]:
        if suite["outside"]:
            share = f"{suite['outside']:,} of {suite['pictures']:,} pictures of {suite['name']}"
            console.print(Text(f"{share} are outside of what this detector was proved on", style="yellow"))
    _print_lines(console, "skipped pictures", [f"{one['path']}: {one['reason']}" for one in report["skipped"]])


def _decision_table(report: Report, suite: SuiteValues, short: bool) -> Table:
    """What each engine decided, and whether it may be handed over."""
    title = f"{suite['name']}: decisions on {suite['pictures']} pictures, mean over test sets with both classes"
    table = _table(title, ("engine", "gates"), ("ACC %", "AP %", "real %", "fake %"))
    for engine in report["engines"]:
        word = outcome_of(engine, suite["name"])
        if engine["not_run"] is not None:
            table.add_row(Text(engine["name"]), word, *[NONE] * 4, style="dim")
            continue
        mean = suite_of(engine, suite["name"])["mean"]
        figures = (show_estimate(mean[key], short=short) for key in ("acc", "ap"))
        classes = (show_number(value_of(mean[key]), ".1f") for key in ("acc_real", "acc_fake"))
        table.add_row(Text(engine["name"]), Text(word, style=_OUTCOMES.get(word, "")), *figures, *classes)
    if short:
        table.caption = _SHORT
    return table


def _change_table(report: Report, suite: SuiteValues, short: bool) -> Table:
    """What each engine changes, in decisions and in logits."""
    headings = ("flips", "p", "ΔACC", "ΔAP", "|Δlogit| p99", "max")
    table = _table(f"{suite['name']}: against PyTorch", ("engine",), headings)
    for engine in engines_compared(report):
        against = comparison_of(engine, suite["name"])
        table.add_row(
            Text(engine["name"]),
            str(against["flips"]),
            show_probability(against["mcnemar_p"]),
            *(show_estimate(against[key], "+z.2f", short=short) for key in ("delta_acc", "delta_ap")),
            *(show_number(against["logit_error"][key], ".2g") for key in ("p99", "max")),
        )
    if short:
        table.caption = _SHORT
    return table


def _set_table(report: Report, suite: SuiteValues, short: bool) -> Table:
    """The reference on every test set, and how many of its decisions each engine flipped there."""
    reference = engines_that_ran(report)[0]
    flipped: dict[str, list[str]] = {part["name"]: [] for part in suite["sets"]}
    for engine in engines_compared(report):
        flips = [flip["set"] for flip in comparison_of(engine, suite["name"])["flipped"]]
        for name, counts in flipped.items():
            counts.append(str(flips.count(name)))
    table = _table(
        f"{suite['name']}: test sets, {reference['name']}",
        ("test set",),
        ("real + fake", "ACC %", "AP %", "real %", "fake %", "flips *"),
    )
    parts = suite_of(reference, suite["name"])["sets"]
    for part in parts:
        figures = (show_estimate(part[key], short=short) for key in ("acc", "ap"))
        classes = (show_number(value_of(part[key]), ".1f") for key in ("acc_real", "acc_fake"))
        pictures = f"{part['real']} + {part['fake']}"
        table.add_row(Text(part["set"]), pictures, *figures, *classes, ", ".join(flipped[part["set"]]))
    notes = [f"* of {', '.join(engine['name'] for engine in engines_compared(report))}"]
    if any(part["ap"] is None for part in parts):
        notes.append("- undefined: a class is missing; such a set is left out of the means")
    table.caption = Text("\n".join(notes))
    return table


def _print_published(report: Report, title: str, published: PublishedValues, console: Console) -> None:
    """Yours and that of the published LFM, with the difference; the page has every method."""
    kinds = ("reference", "detector") if console.width >= _WIDE else ("reference",)
    own = [row for row in published_beside(report, title, kinds) if row[0] == "LFM" or row[1]]
    if not own:
        return
    table = _table(f"{title}: ACC / AP % beside the published figures", ("",), ())
    for name, _, _ in own:
        table.add_column(Text("LFM, published" if name == "LFM" else name), justify="right")
        if name != "LFM":
            table.add_column("Δ", justify="right")
    for column in published["sets"]:
        cells = []
        for _, change, figures in own:
            cells.append(_pair(figures, column, ".1f"))
            if change is not None:
                cells.append(_pair(change, column, "+z.1f"))
        table.add_row(Text(column), *cells)
    _print_table(console, table)


def _print_speeds(report: Report, console: Console) -> None:
    timed = [engine for engine in engines_that_ran(report) if engine["speeds"]]
    batches = sorted({speed["batch"] for engine in timed for speed in engine["speeds"]})
    if not timed:
        return
    headings = (*(f"batch {batch}" for batch in batches), "x PyTorch", "memory")
    table = _table("pictures a second, decoded", ("engine",), headings)
    for engine in timed:
        speeds = {speed["batch"]: speed for speed in engine["speeds"]}
        memory = engine["memory"]
        table.add_row(
            Text(engine["name"]),
            *(show_fps(speeds[batch]["fps"]) if batch in speeds else NONE for batch in batches),
            show_number(engine["speeds"][-1]["times_pytorch"]),
            NONE if memory is None else f"{memory['mib']:.0f} MiB",
        )
    table.caption = f"x PyTorch: on the same device, at batch {batches[-1]}"
    _print_table(console, table)


def _print_gates(report: Report, console: Console) -> None:
    """Gates that fail, then those that are undecided, with what would decide them."""
    for name, gate in gates_to_look_at(report):
        if gate["outcome"] == "fails":
            console.print(Text(f"{name}: gate fails: {_gate(gate)}", style="red"))
        else:
            console.print(Text(f"{name}: gate undecided: {_gate(gate)}: {show_need(gate)}", style="yellow"))


def _gate(gate: GateValues) -> str:
    return f"{gate['suite']}: {gate['name']} is {show_estimate(gate, '.3g')}, allowed {gate['limit']:g}"


def _print_flips(report: Report, console: Console) -> None:
    lines = []
    for flip in flipped_pictures(report):
        logits = ", ".join(f"{name} {show_number(logit, '+.3f')}" for name, logit in flip["logits"].items())
        label = "fake" if flip["label"] else "real"
        lines.append(f"{flip['path']}: is {label}; PyTorch {flip['reference']:+.3f}, {logits}")
    _print_lines(console, "changed decisions, the widest margin first", lines)


def _print_confounders(report: Report, console: Console) -> None:
    """Properties of files that a detector could live on, as far as one screen takes them."""
    found = [one for suite in report["suites"] for one in suite["confounders"]]
    if found:
        console.print(Text(f"real and fake are stored differently: {len(found)}", style="yellow"))
    for one in found[:_LISTED]:
        console.print(f"  {one['set']}: {one['text']}; AUC of the {one['property']} alone {one['auc']:.2f}")
    if len(found) > _LISTED:
        console.print(Text(f"  … and {len(found) - _LISTED} more, all in the JSON"))


def _print_lines(console: Console, heading: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    console.print(Text(f"{heading}: {len(lines)}", style="yellow"))
    for line in lines[:_LISTED]:
        console.print(Text(f"  {line}"), soft_wrap=True)
    if len(lines) > _LISTED:
        console.print(Text(f"  … and {len(lines) - _LISTED} more, all in the JSON"))


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = make_table(title, *left)
    for heading in right:
        table.add_column(heading, justify="right")
    return table


def _print_table(console: Console, table: Table) -> None:
    console.print(table)
    if table.caption:  # a table without one ends with an empty line already
        console.print()


def _pair(figures: ColumnFigures, column: str, form: str) -> str:
    return f"{show_number(figures['acc'][column], form)} / {show_number(figures['ap'][column], form)}"
