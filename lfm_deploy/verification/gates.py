"""What an engine of each precision must meet to be handed over, judged on a comparison with the reference."""

import math

from lfm_deploy.artifacts import Precision
from lfm_deploy.errors import MetricError
from lfm_deploy.metrics.estimate import Estimate
from lfm_deploy.metrics.gate import Gate, judge_exactly, judge_interval
from lfm_deploy.metrics.paired import Change
from lfm_deploy.metrics.sample_size import magnitude, pictures_for_change, pictures_for_rate
from lfm_deploy.quantisation import Budget, Quantisation
from lfm_deploy.verification.comparison import SuiteResult

# How far ACC and AP, in percentage points, may move with FP16; FP32 may not flip a decision at all, and INT8 is held to
# the budget that it was built with.
_FP16_POINTS = 0.1
# The same for BF16, which rounds to eight bits where FP16 rounds to eleven: its decisions are counted too.
_BF16_BUDGET = Budget(acc=_FP16_POINTS, ap=_FP16_POINTS, flips=0.2)
# How far a single logit may move, as a share of the standard deviation of PyTorch's logits over the suite: a wrong
# weight can leave every decision of a small suite alone. Seen with the published checkpoint and the demo's, over 965
# and 300 pictures: 2e-5 in float32, 2.4e-3 in float16; 1e-2 in bfloat16.
CROSSED = "verdicts that cross the lower end of the band in %"
_SHARES = {Precision.FP32: 2e-4, Precision.FP16: 2e-2, Precision.BF16: 1e-1}


def judge_suite(
    precision: Precision,
    result: SuiteResult,
    spread: float,
    quantisation: Quantisation | None = None,
    *,
    limits: Budget | None = None,
) -> tuple[Gate, ...]:
    """The gates of a precision over one suite. A limit of 0 is exact: no sample can show that nothing ever changes.

    Args:
        precision: precision of the engine.
        result: result of the engine from ``compare_suite``.
        spread: standard deviation of the reference's logits.
        quantisation: choices that an INT8 engine was made with, and the budget that it must hold; None for others.
        limits: limits that replace those of FP16, BF16 and INT8; None leaves each its own.

    Raises:
        MetricError: the engine was not compared with a reference.
    """
    if result.against is None:
        raise MetricError(f"{result.suite}: there is no comparison with a reference to judge")
    broken = sum(not part.finite for part in result.sets)
    gates = [judge_exactly(result.suite, "test sets with a logit that is no number", broken, 0)]
    if quantisation is not None:
        outside = int(not quantisation.within_budget)
        gates.append(judge_exactly(result.suite, "built outside its budget (--layers all)", outside, 0))
        limits = limits or quantisation.budget
    if precision is Precision.BF16:
        limits = limits or _BF16_BUDGET
    if precision in _SHARES:
        error = result.against.logit_error.max
        ratio = error / spread if spread else (math.inf if error else 0.0)
        name = "largest |Δlogit| over the spread of PyTorch's logits"
        gates.append(judge_exactly(result.suite, name, None if math.isnan(ratio) else ratio, _SHARES[precision]))
    crossed = result.against.crossed
    if precision is Precision.FP32:
        gates.append(judge_exactly(result.suite, "flipped decisions", result.against.flips, 0))
        return (*gates, *([] if crossed is None else [_judge_rate(result, CROSSED, crossed, 0)]))
    if limits is not None:
        gates.append(_judge_rate(result, "flipped decisions in %", result.against.flip_rate, limits.flips))
        gates += [] if crossed is None else [_judge_rate(result, CROSSED, crossed, limits.flips)]
    acc, ap = (_FP16_POINTS, _FP16_POINTS) if limits is None else (limits.acc, limits.ap)
    gates.append(_judge_change(result, "|ΔACC| in points", result.against.acc, acc))
    gates.append(_judge_change(result, "|ΔAP| in points", result.against.ap, ap))
    return tuple(gates)


def _judge_rate(result: SuiteResult, name: str, rate: Estimate, limit: float) -> Gate:
    """How many verdicts may change, in per cent of all pictures."""
    share = _percent(rate)
    if not limit:
        return judge_exactly(result.suite, name, share.value, 0)
    need = pictures_for_rate(rate.value, limit / 100)
    return judge_interval(result.suite, name, share, limit, pictures=result.pictures, need=need)


def _judge_change(result: SuiteResult, name: str, change: Change | None, limit: float) -> Gate:
    """How far a metric may move in either direction, in percentage points."""
    if change is None:
        return judge_exactly(result.suite, name, None, limit)
    moved = change.estimate
    size = _percent(Estimate(abs(moved.value), *magnitude(moved.low, moved.high)))
    if not limit:
        return judge_exactly(result.suite, name, size.value, 0)
    effective = change.effective if change.floored else None
    need = pictures_for_change(change.sampled, limit / 100, result.pictures, effective)
    return judge_interval(result.suite, name, size, limit, pictures=result.pictures, need=need)


def _percent(share: Estimate) -> Estimate:
    # Rounded so that 2 flips in 2000 are 0.1 points and not the float64 above it.
    return Estimate(*(round(100 * value, 9) for value in (share.value, share.low, share.high)))
