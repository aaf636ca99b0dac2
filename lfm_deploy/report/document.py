"""The report of a verification: JSON first; all other forms are views of it."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lfm_deploy.benchmark import Speed
from lfm_deploy.comparison import Gate, SetResult, SuiteResult
from lfm_deploy.contract import Contract, SizePolicy
from lfm_deploy.estimation import as_number
from lfm_deploy.report.advice import advise
from lfm_deploy.report.environment import describe_environment
from lfm_deploy.report.findings import engines_compared, outcome_of
from lfm_deploy.verification import EngineResult, Verification

_FORMAT = "lfm-deploy report 3"
_OUTCOMES = {"fails": "failed", "undecided": "undecided"}


def make_report(
    verification: Verification,
    *,
    suites: Mapping[str, SizePolicy],
    device: str,
    quantised: Mapping[str, Any] | None = None,
    limits: Mapping[str, float] | None = None,
    published: Mapping[str, Mapping[str, Any]] | None = None,
    envelope: Mapping[str, Any] | None = None,
    command: Sequence[str] | None = None,
    at: datetime | None = None,
) -> dict[str, Any]:
    """A verification as plain values for JSON; accuracies and AP in per cent, as the paper prints them.

    Args:
        verification: what was found.
        suites: what was judged, with the size policy of each.
        device: where PyTorch and ONNX Runtime ran.
        quantised: how the INT8 graphs came about, by recipe, from ``describe_quantisation``.
        limits: of the gates, where the caller has set them: ``acc`` and ``ap`` in points, ``flips`` in per cent.
        published: the paper's figures, by suite.
        envelope: what is left under other conditions, where it was measured.
        command: that made this; None takes this process's.
        at: when; None is now.
    """
    engines = [
        _engine(engine, verification.engines[0].speeds, is_reference=index == 0)
        for index, engine in enumerate(verification.engines)
    ]
    outcome = _outcome(engines)
    return {
        "format": _FORMAT,
        "made": {
            "at": (at or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "command": list(command) if command is not None else _own_command(),
        },
        "verdict": {
            "outcome": outcome,
            "passed": outcome == "passed",
            "text": _verdict(verification, device),
            "not_run": [engine.name for engine in verification.engines if engine.not_run is not None],
        },
        "device": device,
        "threshold": Contract().threshold,
        "limits": None if limits is None else dict(limits),
        "statistics": {"rounds": 2000, "seed": 0, "confidence": 95},
        "suites": [_asked(name, size, verification, (published or {}).get(name)) for name, size in suites.items()],
        "engines": engines,
        "envelope": None if envelope is None else dict(envelope),
        "advice": advise(engines),
        "quantisation": dict(quantised or {}),
        "skipped": [{"path": str(picture.path), "reason": picture.reason} for picture in verification.skipped],
        "environment": describe_environment(),
    }


def scores_as_rows(verification: Verification) -> list[dict[str, Any]]:
    """Every logit with its picture: the rows from which every table is drawn."""
    return [
        {
            "engine": engine,
            "suite": suite,
            "set": name,
            "category": None,
            "path": str(path),
            "label": int(label),
            "logit": float(logit),
        }
        for (engine, suite), parts in verification.scores.items()
        for name, scores in parts
        for path, label, logit in zip(scores.paths, scores.labels, scores.logits, strict=True)
    ]


def _own_command() -> list[str]:
    """This process's command line, by the name that people type."""
    return ["lfm-deploy", *sys.argv[1:]]


def _outcome(engines: Sequence[Mapping[str, Any]]) -> str:
    compared = {outcome_of(engine) for engine in engines_compared({"engines": engines})}
    if not compared:
        return "nothing"
    return next((outcome for word, outcome in _OUTCOMES.items() if word in compared), "passed")


def _asked(
    name: str, size: SizePolicy, verification: Verification, published: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A suite as it was judged: its test sets with the pictures that could be read."""
    parts = verification.scores.get((verification.engines[0].name, name), [])
    sets = [
        {"name": part, "real": int((scores.labels == 0).sum()), "fake": int((scores.labels == 1).sum())}
        for part, scores in parts
    ]
    return {
        "name": name,
        "size": size,
        "pictures": sum(len(scores.paths) for _, scores in parts),
        "sets": sets,
        "published": None if published is None else dict(published),
        "in_both_classes": [],
    }


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


def _engine(engine: EngineResult, reference: Sequence[Speed], *, is_reference: bool) -> dict[str, Any]:
    return {
        "name": engine.name,
        "kind": "reference" if is_reference else "engine",
        "file": engine.path.name,
        "sha256": engine.sha256,
        "precision": str(engine.precision),
        "place": engine.place,
        "quantisation": None if engine.quantisation is None else engine.quantisation.as_dict(),
        "not_run": engine.not_run,
        "cached": 0,
        "memory": None,
        "suites": [_suite(suite) for suite in engine.suites],
        "gates": [_gate_values(gate) for gate in engine.gates],
        "speeds": [_speed(speed, () if is_reference else reference) for speed in engine.speeds],
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


def _speed(speed: Speed, reference: Sequence[Speed]) -> dict[str, Any]:
    """A speed, and how many times that of PyTorch it is, at the same batch and, as one verification has one, device."""
    theirs = next((other.fps for other in reference if other.batch == speed.batch), None)
    return {
        "batch": speed.batch,
        "fps": speed.fps,
        "latency_ms": speed.latency_ms,
        "spread": speed.spread,
        "runs": speed.runs,
        "threads": speed.threads,
        "times_pytorch": None if theirs is None else speed.fps / theirs,
        "measured_at": None,
    }


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction
