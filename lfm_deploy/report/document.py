"""The report of a verification: JSON first; all other forms are views of it."""

from collections.abc import Mapping
from typing import Any

from lfm_deploy.benchmark import Speed
from lfm_deploy.comparison import Gate, SetResult, SuiteResult
from lfm_deploy.contract import Contract
from lfm_deploy.estimation import as_number
from lfm_deploy.report.advice import advise
from lfm_deploy.report.environment import describe_environment
from lfm_deploy.verification import EngineResult, Verification

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


def scores_as_rows(verification: Verification) -> list[dict[str, Any]]:
    """Every logit with its picture: the rows from which every table is drawn."""
    return [
        {"engine": engine, "suite": suite, "set": name, "path": str(path), "label": int(label), "logit": float(logit)}
        for (engine, suite), parts in verification.scores.items()
        for name, scores in parts
        for path, label, logit in zip(scores.paths, scores.labels, scores.logits, strict=True)
    ]


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


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction
