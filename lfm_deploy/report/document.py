"""The report of a verification: JSON first; all other forms are views of it."""

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from calib.flip_estimate import as_number
from lfm_deploy.benchmark.benchmark import Speed
from lfm_deploy.contract import Contract
from lfm_deploy.environment import describe_environment
from lfm_deploy.metrics.engine_metrics import SHARES, Metrics
from lfm_deploy.metrics.estimate import CONFIDENCE, Estimate
from lfm_deploy.metrics.gate import Gate, Outcome, VerdictOutcome
from lfm_deploy.metrics.resampling import ROUNDS, SEED
from lfm_deploy.report.advice import advise
from lfm_deploy.suites import GROUPS, Suite
from lfm_deploy.suites.published import average_precision_of_sigmoids, published_table
from lfm_deploy.verification.comparison import Against, SetResult, SuiteResult
from lfm_deploy.verification.verification_result import EngineResult, Verification

_FORMAT = "lfm-deploy report 3"


def make_report(
    verification: Verification,
    *,
    device: str,
    quantised: Mapping[str, Any] | None = None,
    command: Sequence[str] | None = None,
    at: datetime | None = None,
) -> dict[str, Any]:
    """A verification as plain values for JSON; accuracies and AP in per cent, as the paper prints them.

    Args:
        verification: what was found.
        device: where PyTorch and ONNX Runtime ran.
        quantised: how the INT8 graphs came about, by recipe, from ``describe_quantisation``.
        command: that made this; None takes this process's.
        at: when; None is now.
    """
    limits, envelope = verification.limits, verification.envelope
    published = {suite.name for suite in verification.suites if suite.published}
    engines = [_engine(engine, published) for engine in verification.engines]
    return {
        "format": _FORMAT,
        "made": {
            "at": (at or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "command": list(command) if command is not None else _own_command(),
        },
        "verdict": {
            "outcome": str(verification.outcome),
            "passed": verification.passed,
            "text": _verdict(verification, device),
            "not_run": [engine.name for engine in verification.engines if engine.not_run is not None],
        },
        "device": device,
        "threshold": Contract().threshold,
        "limits": None if limits is None else {"acc": limits.acc, "ap": limits.ap, "flips": limits.flips},
        "statistics": {"rounds": ROUNDS, "seed": SEED, "confidence": round(100 * CONFIDENCE)},
        "suites": [_asked(suite, verification) for suite in verification.suites],
        "group": _group(verification.suites),
        "engines": engines,
        "envelope": None if envelope is None else envelope.as_dict(),
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
            "category": category,
            "path": str(path),
            "label": int(label),
            "logit": float(logit),
        }
        for (engine, suite), parts in verification.scores.items()
        for name, scores in parts
        for path, label, logit, category in zip(
            scores.paths, scores.labels, scores.logits, scores.categories, strict=True
        )
    ]


def _own_command() -> list[str]:
    """This process's command line, by the name that people type."""
    return ["lfm-deploy", *sys.argv[1:]]


def _asked(suite: Suite, verification: Verification) -> dict[str, Any]:
    """A suite as it was judged: its test sets with the pictures that could be read."""
    parts = verification.scores.get((verification.engines[0].name, suite.name), [])
    table = published_table(suite.name) if suite.published else None
    return {
        "name": suite.name,
        "size": suite.size,
        "pictures": sum(len(scores.paths) for _, scores in parts),
        "sets": [
            {"name": part, "real": int((scores.labels == 0).sum()), "fake": int((scores.labels == 1).sum())}
            for part, scores in parts
        ],
        "published": None if table is None else table.as_dict(),
        "in_both_classes": [
            {"sha256": pair.sha256, "real": str(pair.real), "fake": str(pair.fake)}
            for pair in verification.in_both_classes
            if pair.suite == suite.name
        ],
    }


def _group(suites: Sequence[Suite]) -> dict[str, Any] | None:
    """The published figures of a group, where all suites of one were judged."""
    names = tuple(suite.name for suite in suites if suite.published)
    group = next((group for group, members in GROUPS.items() if members == names), None)
    table = None if group is None else published_table(group)
    return None if table is None else {"name": group, "published": table.as_dict()}


def _verdict(verification: Verification, device: str) -> str:
    """The verdict in one line."""
    ran, outcome = verification.compared, verification.outcome
    place = "on CPU" if device == "cpu" else f"on {device}"
    engines = sum(engine.kind == "engine" for engine in verification.engines)
    waiting = engines - len(ran)
    rest = f"; {waiting} not run" if waiting else ""
    if outcome is VerdictOutcome.FAILED:
        broken = ", ".join(engine.name for engine in ran if engine.failed)
        return f"FAILED {place}: {broken} broke a gate{rest}"
    if outcome is VerdictOutcome.NOTHING:
        return f"NOTHING VERIFIED {place}: no engine could run{rest}"
    if outcome is VerdictOutcome.UNDECIDED:
        return f"UNDECIDED {place}: {_describe_undecided(ran)}{rest}"
    return f"PASSED {place}: {len(ran)} of {engines} engines hold their gates{rest}"


def _describe_undecided(engines: list[EngineResult]) -> str:
    """For whom the pictures are too few, and how many would do."""
    gates = [(engine, gate) for engine in engines for gate in engine.gates if gate.outcome is Outcome.UNDECIDED]
    names = dict.fromkeys(engine.name for engine, _ in gates)
    pictures = {suite.suite: suite.pictures for engine in engines for suite in engine.suites}
    few = " and ".join(f"{pictures[suite]:,}" for suite in dict.fromkeys(gate.suite for _, gate in gates))
    needs = [gate.need for _, gate in gates]
    decide = "a figure lies on its limit" if None in needs else f"need ≥ {max(need or 0 for need in needs):,}"
    return f"no gate fails, but these {few} pictures are too few for {', '.join(names)}; {decide}"


def _engine(engine: EngineResult, published: Collection[str]) -> dict[str, Any]:
    return {
        "name": engine.name,
        "kind": engine.kind,
        "file": engine.path.name,
        "sha256": engine.sha256,
        "precision": str(engine.precision),
        "place": engine.place,
        "quantisation": None if engine.quantisation is None else engine.quantisation.as_dict(),
        "not_run": engine.not_run,
        "cached": engine.cached,
        "memory": None if engine.memory is None else asdict(engine.memory),
        "suites": [_suite(suite, suite.suite in published) for suite in engine.suites],
        "gates": [_gate_values(gate) for gate in engine.gates],
        "speeds": [_speed(speed) for speed in engine.speeds],
    }


def _suite(suite: SuiteResult, published: bool) -> dict[str, Any]:
    return {
        "suite": suite.suite,
        "pictures": suite.pictures,
        "mean": _metrics(suite.mean),
        "pooled": _metrics(suite.pooled),
        "ap_of_sigmoids": _ap_of_sigmoids(suite) if published else None,
        "sets": [_set(part) for part in suite.sets],
        "against": None if suite.against is None else _against(suite.against),
    }


def _ap_of_sigmoids(suite: SuiteResult) -> float | None:
    """AP as the paper takes it, mean over test sets in per cent; to stand beside published figures."""
    complete = [scores for (_, scores), part in zip(suite.scores, suite.sets, strict=True) if part.real and part.fake]
    if suite.mean.ap is None:
        return None
    return 100 * float(np.mean([average_precision_of_sigmoids(scores.logits, scores.labels) for scores in complete]))


def _set(part: SetResult) -> dict[str, Any]:
    categories = [
        {
            "name": category.name,
            "real": category.real,
            "fake": category.fake,
            "acc": 100 * category.acc,
            "ap": None if category.ap is None else 100 * category.ap,
        }
        for category in part.categories
    ]
    return (
        {"set": part.name, "real": part.real, "fake": part.fake} | _metrics(part.metrics) | {"categories": categories}
    )


def _metrics(metrics: Metrics) -> dict[str, Any]:
    """Shares in per cent, thresholds as they are."""
    best = metrics.best_threshold
    return {name: _estimate(getattr(metrics, name), 100) for name in (*SHARES, "ece")} | {
        "best_threshold": None
        if best is None
        else {"threshold": _estimate(best.threshold), "balanced_acc": _estimate(best.balanced_acc, 100)},
        "at_fpr": [
            {
                "fpr": 100 * fixed.fpr,
                "threshold": _estimate(fixed.threshold),
                "acc_fake": _estimate(fixed.acc_fake, 100),
            }
            for fixed in metrics.at_fpr
        ],
    }


def _against(against: Against) -> dict[str, Any]:
    """The comparison with the reference; what is no number is null."""
    error = against.logit_error
    return {
        "flips": against.flips,
        "flip_rate": _estimate(against.flip_rate, 100),
        "better": against.better,
        "worse": against.worse,
        "mcnemar_p": against.mcnemar_p,
        "delta_acc": _estimate(against.delta_acc, 100),
        "delta_ap": _estimate(against.delta_ap, 100),
        "logit_error": {name: as_number(getattr(error, name)) for name in ("max", "mean", "p50", "p95", "p99")},
        "flipped": [
            {
                "set": flip.set,
                "path": str(flip.path),
                "label": flip.label,
                "reference": flip.reference,
                "logit": as_number(flip.logit),
                "margin": flip.margin,
            }
            for flip in against.flipped
        ],
    }


def _estimate(estimate: Estimate | None, factor: float = 1) -> dict[str, float] | None:
    """A figure and its interval, times a factor."""
    if estimate is None:
        return None
    return {name: factor * getattr(estimate, name) for name in ("value", "low", "high")}


def _gate_values(gate: Gate) -> dict[str, Any]:
    numbers = {name: as_number(getattr(gate, name)) for name in ("value", "low", "high")}
    return {
        "suite": gate.suite,
        "name": gate.name,
        **numbers,
        "limit": gate.limit,
        "outcome": str(gate.outcome),
        "need": gate.need,
        "text": gate.text,
    }


def _speed(speed: Speed) -> dict[str, Any]:
    return {
        "batch": speed.batch,
        "fps": speed.fps,
        "latency_ms": speed.latency_ms,
        "spread": speed.spread,
        "runs": speed.runs,
        "threads": speed.threads,
        "times_pytorch": speed.times_pytorch,
        "measured_at": speed.measured_at,
    }
