"""One engine's scores against the reference's: metrics, flipped decisions, and the gates on both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.artifacts import Precision
from lfm_deploy.metrics import accuracy, accuracy_of_class, average_precision, decision_flips
from lfm_deploy.quantisation import Quantisation

# How far ACC and AP, in percentage points, may move with FP16; FP32 may not flip a decision at all, and INT8 is held to
# the budget that it was built with.
_FP16_POINTS = 0.1
# How far a single logit may move, as a share of the standard deviation of PyTorch's logits over the suite: a wrong
# weight can leave every decision of a small suite alone. Seen with the published checkpoint and the demo's, over 965
# and 300 pictures: 2e-5 in float32, 2.4e-3 in float16.
_SHARES = {Precision.FP32: 2e-4, Precision.FP16: 2e-2}


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One engine's logits over one test set, with the pictures they belong to.

    Attributes:
        paths: of the pictures that could be read, in order.
        labels: int64 ``(N,)``; 0 is real, 1 is fake.
        logits: float32 ``(N,)``.
    """

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class SetResult:
    """How one engine did on one test set; accuracies and AP are fractions in [0, 1].

    Attributes:
        name: of the test set.
        real, fake: how many pictures of each class.
        acc: accuracy at the contract's threshold.
        acc_real, acc_fake: the same of one class; None where it has no picture.
        ap: average precision of the fake class; None where a class is missing.
        flips: pictures whose decision differs from the reference's.
        max_error, mean_error: of |logit - reference logit|.
        finite: whether every logit is a finite number; if not, accuracies count it as "real" and AP is None.
    """

    name: str
    real: int
    fake: int
    acc: float
    acc_real: float | None
    acc_fake: float | None
    ap: float | None
    flips: tuple[Path, ...]
    max_error: float
    mean_error: float
    finite: bool


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """How one engine did on one suite.

    Attributes:
        suite: its name.
        sets: one result a test set.
        acc, acc_real, acc_fake, ap: means over the test sets that have both classes, as the paper takes them; AP is
            None where it is undefined.
        spread: standard deviation of the reference's logits over all pictures.
    """

    suite: str
    sets: tuple[SetResult, ...]
    acc: float
    acc_real: float
    acc_fake: float
    ap: float | None
    spread: float

    @property
    def pictures(self) -> int:
        """How many pictures were judged."""
        return sum(part.real + part.fake for part in self.sets)

    @property
    def flips(self) -> tuple[Path, ...]:
        """Pictures whose decision differs from the reference's."""
        return tuple(path for part in self.sets for path in part.flips)

    @property
    def max_error(self) -> float:
        """Largest |logit - reference logit|."""
        return max(part.max_error for part in self.sets)

    @property
    def mean_error(self) -> float:
        """Mean |logit - reference logit| over all pictures."""
        return sum(part.mean_error * (part.real + part.fake) for part in self.sets) / self.pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One condition that an engine must meet to be handed over: ``value`` is at most ``limit``."""

    suite: str
    name: str
    value: float | None
    limit: float

    @property
    def passed(self) -> bool:
        """Whether it holds; a value that does not exist does not hold."""
        return self.value is not None and self.value <= self.limit


def compare_suite(
    suite: str, scores: Sequence[tuple[str, Scores]], reference: Sequence[tuple[str, Scores]], threshold: float
) -> SuiteResult:
    """Compare an engine's scores with the reference's, test set by test set.

    Args:
        suite: name of the suite.
        scores: name of a test set and the engine's scores on it.
        reference: the same test sets and pictures, scored by the reference.
        threshold: logits above it are "fake".
    """
    sets = tuple(
        _compare_set(name, mine, theirs, threshold) for (name, mine), (_, theirs) in zip(scores, reference, strict=True)
    )
    complete = [part for part in sets if part.real and part.fake]
    precisions = [part.ap for part in complete if part.ap is not None]
    return SuiteResult(
        suite=suite,
        sets=sets,
        acc=float(np.mean([part.acc for part in complete])),
        acc_real=float(np.mean([part.acc_real for part in complete])),
        acc_fake=float(np.mean([part.acc_fake for part in complete])),
        ap=float(np.mean(precisions)) if len(precisions) == len(complete) else None,
        spread=float(np.concatenate([theirs.logits for _, theirs in reference]).std(dtype=np.float64)),
    )


def judge_suite(
    precision: Precision, result: SuiteResult, reference: SuiteResult, quantisation: Quantisation | None = None
) -> tuple[Gate, ...]:
    """The gates of a precision over one suite.

    Args:
        precision: of the engine.
        result: of the engine.
        reference: PyTorch's result on the same pictures.
        quantisation: of an INT8 engine, with the budget that it must hold.
    """
    broken = sum(not part.finite for part in result.sets)
    gates = [Gate(suite=result.suite, name="test sets with a logit that is no number", value=broken, limit=0)]
    if quantisation is not None:
        budget = quantisation.budget
        share = round(100 * len(result.flips) / result.pictures, 9)
        gates += [
            Gate(
                suite=result.suite,
                name="built outside its budget (--layers all)",
                value=int(not quantisation.within_budget),
                limit=0,
            ),
            Gate(suite=result.suite, name="flipped decisions in %", value=share, limit=budget.flips),
        ]
        return (*gates, *_judge_metrics(result, reference, budget.acc, budget.ap))
    ratio = result.max_error / result.spread if result.spread else None
    gates.append(
        Gate(
            suite=result.suite,
            name="largest |Δlogit| over the spread of PyTorch's logits",
            value=None if ratio is None or math.isnan(ratio) else ratio,
            limit=_SHARES[precision],
        )
    )
    if precision is Precision.FP32:
        return (*gates, Gate(suite=result.suite, name="flipped decisions", value=len(result.flips), limit=0))
    return (*gates, *_judge_metrics(result, reference, _FP16_POINTS, _FP16_POINTS))


def _judge_metrics(result: SuiteResult, reference: SuiteResult, acc: float, ap: float) -> tuple[Gate, ...]:
    """Gates on how far accuracy and average precision may move, in percentage points."""
    gates = []
    for name, mine, theirs, limit in (
        ("|ΔACC| in points", result.acc, reference.acc, acc),
        ("|ΔAP| in points", result.ap, reference.ap, ap),
    ):
        # Rounded so that 2 flips in 2000 are 0.1 points and not the float64 above it.
        change = None if mine is None or theirs is None else round(100 * abs(mine - theirs), 9)
        gates.append(Gate(suite=result.suite, name=name, value=change, limit=limit))
    return tuple(gates)


def _compare_set(name: str, scores: Scores, reference: Scores, threshold: float) -> SetResult:
    labels, logits = scores.labels, scores.logits
    real, fake = int((labels == 0).sum()), int((labels == 1).sum())
    finite = bool(np.isfinite(logits).all())
    # A logit that is no number is above no threshold, so it decides "real".
    judged = logits if finite else np.where(np.isfinite(logits), logits, -np.inf)
    with np.errstate(invalid="ignore"):
        errors = np.abs(logits.astype(np.float64) - reference.logits)
    return SetResult(
        name=name,
        real=real,
        fake=fake,
        acc=accuracy(judged, labels, threshold),
        acc_real=accuracy_of_class(judged, labels, 0, threshold) if real else None,
        acc_fake=accuracy_of_class(judged, labels, 1, threshold) if fake else None,
        ap=average_precision(logits, labels) if real and fake and finite else None,
        flips=tuple(scores.paths[index] for index in decision_flips(judged, reference.logits, threshold)),
        max_error=float(errors.max()),
        mean_error=float(errors.mean()),
        finite=finite,
    )
