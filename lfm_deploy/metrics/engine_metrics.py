"""The metrics of one engine over one group of pictures, each an estimate."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.metrics.estimate import Estimate, percentile_interval, reversed_interval, share_interval
from lfm_deploy.metrics.ranking import FALSE_POSITIVE_RATES

Rounds = dict[str, NDArray[np.float64]]
SHARES = ("acc", "acc_real", "acc_fake", "balanced_acc", "ap", "auc")


@dataclass(frozen=True, slots=True, kw_only=True)
class BestThreshold:
    """The threshold with the best balanced accuracy, chosen and judged on the same pictures."""

    threshold: Estimate
    balanced_acc: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedRate:
    """The lowest threshold that takes at most ``fpr`` of the real pictures for fake, and the fakes that it finds.

    None where fewer than 1 / ``fpr`` real pictures leave nothing to count.
    """

    fpr: float
    threshold: Estimate | None
    acc_fake: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What one engine achieves; shares in [0, 1], None where a class is missing or a logit is no number.

    Attributes:
        acc: accuracy at the contract's threshold.
        acc_real, acc_fake: accuracy on the real and on the fake pictures.
        balanced_acc: mean of the two classes' accuracies.
        ap, auc: average precision of the fake class, area under the ROC curve.
        ece: expected calibration error of the logit's sigmoid.
        best_threshold: threshold at which balanced accuracy is largest.
        at_fpr: thresholds that keep to a false-positive rate, one entry for each rate.
    """

    acc: Estimate | None
    acc_real: Estimate | None
    acc_fake: Estimate | None
    balanced_acc: Estimate | None
    ap: Estimate | None
    auc: Estimate | None
    ece: Estimate | None
    best_threshold: BestThreshold | None
    at_fpr: tuple[FixedRate, ...]


def make_metrics(values: Mapping[str, float], rounds: Rounds, pictures: Mapping[str, float]) -> Metrics:
    """Metrics from figures and their rounds.

    Args:
        values: figures of the sample by name; a figure that is undefined is missing. Thresholds are named by ``named``.
        rounds: figures of the resampled samples, by the same names, ``(R,)`` each.
        pictures: number of pictures that a share rests on, by its name.
    """
    shares = {
        name: share_interval(values[name], rounds[name], pictures[name]) if name in values else None
        for name in (*SHARES, "best_balanced_acc", *(named("acc_fake", rate) for rate in FALSE_POSITIVE_RATES))
    }
    thresholds = {
        name: percentile_interval(values[name], rounds[name]) if name in values else None
        for name in ("best_threshold", *(named("threshold", rate) for rate in FALSE_POSITIVE_RATES))
    }
    threshold, best = thresholds["best_threshold"], shares["best_balanced_acc"]
    return Metrics(
        **{name: shares[name] for name in SHARES},
        ece=reversed_interval(values["ece"], rounds["ece"]) if "ece" in values else None,
        best_threshold=None
        if threshold is None or best is None
        else BestThreshold(threshold=threshold, balanced_acc=best),
        at_fpr=tuple(
            FixedRate(
                fpr=rate, threshold=thresholds[named("threshold", rate)], acc_fake=shares[named("acc_fake", rate)]
            )
            for rate in FALSE_POSITIVE_RATES
        ),
    )


def named(figure: str, rate: float) -> str:
    """Name of a figure at a false-positive rate."""
    return f"{figure} at FPR {rate:g}"
