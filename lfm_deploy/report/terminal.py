"""The report for a terminal: a view of the JSON."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lfm_deploy.tables import make_table

_LISTED = 5


def print_report(report: dict[str, Any], console: Console) -> None:
    """The report for a terminal: verdict, engines, test sets, and what was flipped or skipped."""
    style = {"passed": "bold green", "undecided": "bold yellow"}.get(report["verdict"]["outcome"], "bold red")
    console.print(Text(report["verdict"]["text"], style=style))
    for index, suite in enumerate(report["suites"]):
        console.print(_decision_table(report, index, suite))
        console.print(_logit_table(report, index, suite))
        if len(report["engines"][0]["suites"][index]["sets"]) > 1:
            console.print(_set_table(report, index, suite))
    _print_not_run(report, console)
    for line in report["advice"]:
        console.print(Text(line, style="bold"))
    for engine in report["engines"]:
        for gate in engine["gates"]:
            if gate["outcome"] != "holds":
                failed = gate["outcome"] == "fails"
                text = f"{engine['name']}: gate {'failed' if failed else 'undecided'}: {gate['suite']}: {gate['text']}"
                console.print(Text(text, style="red" if failed else "yellow"))
        _print_paths(console, f"{engine['name']}: flipped decisions", _flips(engine))
    reasons = [f"{picture['path']}: {picture['reason']}" for picture in report["skipped"]]
    _print_paths(console, "skipped pictures", reasons)


def _decision_table(report: dict[str, Any], index: int, suite: str) -> Table:
    """What each engine decided, and whether it may be handed over."""
    table = make_table(f"{suite}: decisions, mean over test sets with both classes", "engine", "gates")
    for heading in ("ACC %", "AP %", "real %", "fake %", "flips"):
        table.add_column(heading, justify="right")
    for row, engine in enumerate(report["engines"]):
        if engine["not_run"] is not None:
            table.add_row(engine["name"], "not run", *["-"] * 5, style="dim")
            continue
        result = engine["suites"][index]
        outcomes = {gate["outcome"] for gate in engine["gates"] if gate["suite"] == suite}
        verdict = Text("hold", style="green")
        if "fails" in outcomes:
            verdict = Text("FAILED", style="bold red")
        elif "undecided" in outcomes:
            verdict = Text("undecided", style="yellow")
        figures = (_shown(result["mean"][name]) for name in ("acc", "ap", "acc_real", "acc_fake"))
        flips = str(result["against"]["flips"]) if row else "-"
        table.add_row(engine["name"], verdict if row else "reference", *figures, flips)
    return table


def _logit_table(report: dict[str, Any], index: int, suite: str) -> Table:
    """How far logits moved, and how fast the engines that ran are."""
    batches = sorted({speed["batch"] for engine in report["engines"] for speed in engine["speeds"]})
    table = make_table(f"{suite}: logits against PyTorch" + (", and speed" if batches else ""), "engine")
    for heading in ("max |Δlogit|", "mean |Δlogit|", *(f"FPS, batch {batch}" for batch in batches)):
        table.add_column(heading, justify="right")
    for engine in _ran(report):
        result = engine["suites"][index]
        speeds = {speed["batch"]: f"{speed['fps']:.0f}" for speed in engine["speeds"]}
        moved = result["against"]["logit_error"] if result["against"] else {"max": 0.0, "mean": 0.0}
        errors = ("-" if moved[name] is None else f"{moved[name]:.2g}" for name in ("max", "mean"))
        table.add_row(engine["name"], *errors, *(speeds.get(batch, "-") for batch in batches))
    return table


def _set_table(report: dict[str, Any], index: int, suite: str) -> Table:
    """The reference on every test set, and how many of its decisions each engine flipped there."""
    reference, *others = _ran(report)
    table = make_table(f"{suite}: test sets, {reference['name']}", "test set")
    for heading in ("real + fake", "ACC %", "AP %", "real %", "fake %", "flips *"):
        table.add_column(heading, justify="right", no_wrap=True)
    for part in reference["suites"][index]["sets"]:
        figures = (_shown(part[name]) for name in ("acc", "ap", "acc_real", "acc_fake"))
        flips = ", ".join(
            str(sum(flip["set"] == part["set"] for flip in engine["suites"][index]["against"]["flipped"]))
            for engine in others
        )
        table.add_row(part["set"], f"{part['real']} + {part['fake']}", *figures, flips)
    notes = [f"* of {', '.join(engine['name'] for engine in others)}"] if others else []
    if any(part["ap"] is None for part in reference["suites"][index]["sets"]):
        notes.append("- undefined: a class is missing; such a set is left out of the means")
    table.caption = "\n".join(notes)
    return table


def _ran(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [engine for engine in report["engines"] if engine["not_run"] is None]


def _print_not_run(report: dict[str, Any], console: Console) -> None:
    """Each reason once, with the engines that it kept from running."""
    reasons: dict[str, list[str]] = {}
    for engine in report["engines"]:
        if engine["not_run"] is not None:
            outside = engine["quantisation"] is not None and not engine["quantisation"]["within_budget"]
            mark = " (built outside its budget)" if outside else ""
            reasons.setdefault(engine["not_run"], []).append(engine["name"] + mark)
    for reason, names in reasons.items():
        console.print(Text(f"not run, {reason}: {', '.join(names)}", style="dim"))


def _flips(engine: dict[str, Any]) -> list[str]:
    return [flip["path"] for suite in engine["suites"] if suite["against"] for flip in suite["against"]["flipped"]]


def _print_paths(console: Console, heading: str, lines: list[str]) -> None:
    if not lines:
        return
    console.print(Text(f"{heading}: {len(lines)}", style="yellow"))
    for line in lines[:_LISTED]:
        console.print(Text(f"  {line}"), soft_wrap=True)
    if len(lines) > _LISTED:
        console.print(f"  … and {len(lines) - _LISTED} more, all in the JSON")


def _shown(estimate: dict[str, float] | None) -> str:
    return "-" if estimate is None else f"{estimate['value']:.2f}"
