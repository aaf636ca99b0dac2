"""One engine in the report: its figures, its comparison with the reference, gates and speeds, as plain values."""

from collections.abc import Collection

import numpy as np

from calib.flip_estimate import as_number
from lfm_deploy.benchmark.benchmark import Speed
from lfm_deploy.metrics.engine_metrics import Metrics
from lfm_deploy.metrics.estimate import Estimate, EstimateValues
from lfm_deploy.metrics.gate import Gate
from lfm_deploy.report.engine_schema import (
    AgainstValues,
    CategoryValues,
    EngineValues,
    GateValues,
    MemoryValues,
    MetricsValues,
    PixelValues,
    SetResultValues,
    SpeedValues,
    SuiteResultValues,
)
from lfm_deploy.suites.published import average_precision_of_sigmoids
from lfm_deploy.verification.comparison import Against, SetResult, SuiteResult
from lfm_deploy.verification.decoder_findings import PixelFindings
from lfm_deploy.verification.speeds import MemoryUse
from lfm_deploy.verification.verification_result import EngineResult


def describe_engine(engine: EngineResult, published: Collection[str]) -> EngineValues:
    """One engine as plain values for JSON.

    Args:
        engine: result of a verification.
        published: names of the suites that the paper has figures for.
    """
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
        "memory": None if engine.memory is None else _memory(engine.memory),
        "kernels": engine.kernels,
        "suites": [_suite(suite, suite.suite in published) for suite in engine.suites],
        "gates": [_gate(gate) for gate in engine.gates],
        "speeds": [_speed(speed) for speed in engine.speeds],
        "pixels": [_pixels(suite, found) for suite, found in engine.pixels.items()],
    }


def _suite(suite: SuiteResult, published: bool) -> SuiteResultValues:
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


def _set(part: SetResult) -> SetResultValues:
    categories: list[CategoryValues] = [
        {
            "name": category.name,
            "real": category.real,
            "fake": category.fake,
            "acc": 100 * category.acc,
            "ap": None if category.ap is None else 100 * category.ap,
        }
        for category in part.categories
    ]
    return {
        "set": part.name,
        "real": part.real,
        "fake": part.fake,
        **_metrics(part.metrics),
        "categories": categories,
    }


def _metrics(metrics: Metrics) -> MetricsValues:
    """Shares in per cent, thresholds as they are."""
    best = metrics.best_threshold
    return {
        "acc": _percent(metrics.acc),
        "acc_real": _percent(metrics.acc_real),
        "acc_fake": _percent(metrics.acc_fake),
        "balanced_acc": _percent(metrics.balanced_acc),
        "ap": _percent(metrics.ap),
        "auc": _percent(metrics.auc),
        "ece": _percent(metrics.ece),
        "best_threshold": None
        if best is None
        else {"threshold": best.threshold.as_dict(), "balanced_acc": best.balanced_acc.as_dict(100)},
        "at_fpr": [
            {
                "fpr": 100 * fixed.fpr,
                "threshold": None if fixed.threshold is None else fixed.threshold.as_dict(),
                "acc_fake": _percent(fixed.acc_fake),
            }
            for fixed in metrics.at_fpr
        ],
    }


def _against(against: Against) -> AgainstValues:
    """The comparison with the reference; what is no number is null."""
    error = against.logit_error
    return {
        "flips": against.flips,
        "flip_rate": against.flip_rate.as_dict(100),
        "better": against.better,
        "worse": against.worse,
        "mcnemar_p": against.mcnemar_p,
        "delta_acc": _percent(against.delta_acc),
        "delta_ap": _percent(against.delta_ap),
        "logit_error": {
            "max": as_number(error.max),
            "mean": as_number(error.mean),
            "p50": as_number(error.p50),
            "p95": as_number(error.p95),
            "p99": as_number(error.p99),
        },
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


def _percent(estimate: Estimate | None) -> EstimateValues | None:
    return None if estimate is None else estimate.as_dict(100)


def _gate(gate: Gate) -> GateValues:
    return {
        "suite": gate.suite,
        "name": gate.name,
        "value": as_number(gate.value),
        "low": as_number(gate.low),
        "high": as_number(gate.high),
        "limit": gate.limit,
        "outcome": str(gate.outcome),
        "need": gate.need,
        "text": gate.text,
    }


def _memory(memory: MemoryUse) -> MemoryValues:
    return {"kind": memory.kind, "mib": memory.mib, "what": memory.what}


def _pixels(suite: str, found: PixelFindings) -> PixelValues:
    return {
        "suite": suite,
        "pictures": found.pictures,
        "differing": found.differing,
        "share": 100 * found.share,
        "largest": found.largest,
        "otherwise": found.otherwise,
        "samples": list(found.samples),
    }


def _speed(speed: Speed) -> SpeedValues:
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
