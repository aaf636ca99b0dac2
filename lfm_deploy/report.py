"""The report of a verification: JSON first; the terminal table is a view of the same values."""

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lfm_deploy.advice import advise
from lfm_deploy.benchmark import Speed
from lfm_deploy.comparison import Gate, SetResult, SuiteResult
from lfm_deploy.contract import Contract
from lfm_deploy.estimation import as_number
from lfm_deploy.machine import count_cores, read_processor
from lfm_deploy.tables import make_table
from lfm_deploy.verification import EngineResult, Verification
from lfm_deploy.version import __version__

_LIBRARIES = (
    "torch",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "numpy",
    "pillow",
)
_LISTED = 5
_FORMAT = "lfm-deploy report 2"


def make_report(
    verification: Verification, *, suites: list[str], device: str, quantised: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A verification as plain values for JSON; accuracies and AP in per cent, as the paper prints them.

    Args:
        verification: what was found.
        suites: what was asked for.
        device: where PyTorch and ONNX Runtime ran.
        quantised: how the INT8 graphs came about, by recipe, from ``describe_quantisation``.
    """
    return {
        "format": _FORMAT,
        "verdict": {
            "passed": verification.passed,
            "text": _verdict(verification, device),
            "not_run": [engine.name for engine in verification.engines if engine.not_run is not None],
        },
        "suites": suites,
        "device": device,
        "threshold": Contract().threshold,
        "engines": [_engine(engine) for engine in verification.engines],
        "advice": advise(verification),
        "quantisation": dict(quantised or {}),
        "skipped": [{"path": str(picture.path), "reason": picture.reason} for picture in verification.skipped],
        "environment": describe_environment(),
    }


def describe_environment() -> dict[str, Any]:
    """What a figure depends on: processor, threads, system and library versions."""
    return {
        "lfm-deploy": __version__,
        "processor": read_processor(),
        "threads": count_cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: found for name in _LIBRARIES if (found := _version(name)) is not None},
    }


def scores_as_rows(verification: Verification) -> list[dict[str, Any]]:
    """Every logit with its picture: the rows from which every table is drawn."""
    return [
        {"engine": engine, "suite": suite, "set": name, "path": str(path), "label": int(label), "logit": float(logit)}
        for (engine, suite), parts in verification.scores.items()
        for name, scores in parts
        for path, label, logit in zip(scores.paths, scores.labels, scores.logits, strict=True)
    ]


def print_report(report: dict[str, Any], console: Console) -> None:
    """The report for a terminal: verdict, engines, test sets, and what was flipped or skipped."""
    passed = report["verdict"]["passed"]
    console.print(Text(report["verdict"]["text"], style="bold green" if passed else "bold red"))
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
            if not gate["passed"]:
                console.print(Text(f"{engine['name']}: gate failed: {_gate(gate)}", style="red"))
        _print_paths(console, f"{engine['name']}: flipped decisions", _flips(engine))
    reasons = [f"{picture['path']}: {picture['reason']}" for picture in report["skipped"]]
    _print_paths(console, "skipped pictures", reasons)


def _verdict(verification: Verification, device: str) -> str:
    ran = verification.compared
    failed = [engine.name for engine in ran if engine.failed]
    place = "on CPU" if device == "cpu" else f"on {device}"
    waiting = len(verification.engines) - 1 - len(ran)
    rest = f"; {waiting} not run" if waiting else ""
    if failed:
        return f"FAILED {place}: {', '.join(failed)} broke a gate{rest}"
    if not ran:
        return f"NOTHING VERIFIED {place}: no engine could run{rest}"
    return f"PASSED {place}: {len(ran)} of {len(verification.engines) - 1} engines hold their gates{rest}"


def _engine(engine: EngineResult) -> dict[str, Any]:
    return {
        "name": engine.name,
        "file": engine.path.name,
        "sha256": engine.sha256,
        "precision": str(engine.precision),
        "quantisation": None if engine.quantisation is None else engine.quantisation.as_dict(),
        "not_run": engine.not_run,
        "suites": [_suite(suite) for suite in engine.suites],
        "gates": [_gate_values(gate) for gate in engine.gates],
        "speeds": [_speed(speed) for speed in engine.speeds],
    }


def _suite(suite: SuiteResult) -> dict[str, Any]:
    return {
        "suite": suite.suite,
        "pictures": suite.pictures,
        "acc": _percent(suite.acc),
        "acc_real": _percent(suite.acc_real),
        "acc_fake": _percent(suite.acc_fake),
        "ap": _percent(suite.ap),
        "flips": len(suite.flips),
        "max_error": as_number(suite.max_error),
        "mean_error": as_number(suite.mean_error),
        "sets": [_set(part) for part in suite.sets],
    }


def _set(part: SetResult) -> dict[str, Any]:
    return {
        "set": part.name,
        "real": part.real,
        "fake": part.fake,
        "acc": _percent(part.acc),
        "acc_real": _percent(part.acc_real),
        "acc_fake": _percent(part.acc_fake),
        "ap": _percent(part.ap),
        "flips": [str(path) for path in part.flips],
        "max_error": as_number(part.max_error),
        "mean_error": as_number(part.mean_error),
    }


def _gate_values(gate: Gate) -> dict[str, Any]:
    return {"suite": gate.suite, "name": gate.name, "value": gate.value, "limit": gate.limit, "passed": gate.passed}


def _speed(speed: Speed) -> dict[str, Any]:
    return {
        "batch": speed.batch,
        "fps": speed.fps,
        "latency_ms": speed.latency_ms,
        "spread": speed.spread,
        "runs": speed.runs,
        "threads": speed.threads,
    }


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
        held = all(gate["passed"] for gate in engine["gates"] if gate["suite"] == suite)
        verdict = Text("hold", style="green") if held else Text("FAILED", style="bold red")
        figures = (_shown(result[name]) for name in ("acc", "ap", "acc_real", "acc_fake"))
        table.add_row(engine["name"], verdict if row else "reference", *figures, str(result["flips"]))
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
        errors = ("-" if result[name] is None else f"{result[name]:.2g}" for name in ("max_error", "mean_error"))
        table.add_row(engine["name"], *errors, *(speeds.get(batch, "-") for batch in batches))
    return table


def _set_table(report: dict[str, Any], index: int, suite: str) -> Table:
    """The reference on every test set, and how many of its decisions each engine flipped there."""
    reference, *others = _ran(report)
    table = make_table(f"{suite}: test sets, {reference['name']}", "test set")
    for heading in ("real + fake", "ACC %", "AP %", "real %", "fake %", "flips *"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row, part in enumerate(reference["suites"][index]["sets"]):
        figures = (_shown(part[name]) for name in ("acc", "ap", "acc_real", "acc_fake"))
        flips = ", ".join(str(len(engine["suites"][index]["sets"][row]["flips"])) for engine in others)
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
    return [path for suite in engine["suites"] for part in suite["sets"] for path in part["flips"]]


def _print_paths(console: Console, heading: str, lines: list[str]) -> None:
    if not lines:
        return
    console.print(Text(f"{heading}: {len(lines)}", style="yellow"))
    for line in lines[:_LISTED]:
        console.print(Text(f"  {line}"), soft_wrap=True)
    if len(lines) > _LISTED:
        console.print(f"  … and {len(lines) - _LISTED} more, all in the JSON")


def _gate(gate: dict[str, Any]) -> str:
    value = "none" if gate["value"] is None else f"{gate['value']:.3g}"
    return f"{gate['suite']}: {gate['name']} is {value}, allowed {gate['limit']:g}"


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def _shown(percent: float | None) -> str:
    return "-" if percent is None else f"{percent:.2f}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
