"""Accuracy, average precision, area under the ROC curve and flipped decisions, from logits."""

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.errors import MetricError


def decide(logits: NDArray[np.floating], threshold: float = 0.0) -> NDArray[np.bool_]:
    """True is "fake": a logit above the threshold; one exactly on it is "real".

    Args:
        logits: ``(N,)``.
        threshold: threshold of the contract; a logit above it is fake.
    """
    return np.asarray(logits > threshold)


def accuracy(logits: NDArray[np.floating], labels: NDArray[np.integer], threshold: float = 0.0) -> float:
    """Share of right decisions, in [0, 1].

    Args:
        logits: ``(N,)``.
        labels: ``(N,)``; 0 is real, 1 is fake.
        threshold: threshold of the contract; a logit above it is fake.

    Raises:
        MetricError: there is no picture, lengths differ, or a label is neither 0 nor 1.
    """
    _check(logits, labels)
    return float((decide(logits, threshold) == (labels == 1)).mean())


def average_precision(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Average precision of the fake class, in [0, 1].

    Equal scores share one threshold, so ties never depend on file order. Give logits, not their sigmoid: in float32 the
    sigmoid is exactly 1 above a logit of about 17, and logits reach 46, so it makes ties that no engine made, and a
    logit that moves by 0.02 across that edge can move AP by a point.

    Args:
        scores: ``(N,)``, finite; larger is more likely fake.
        labels: ``(N,)``; 0 is real, 1 is fake.

    Raises:
        MetricError: lengths differ, a class is missing, or a score is not a finite number.

    Source: ``validate()`` in the authors' repository uses scikit-learn's ``average_precision_score``, as this does, but
    on float32 sigmoids.
    """
    from sklearn.metrics import average_precision_score

    _check(scores, labels)
    if not np.isfinite(scores).all():
        raise MetricError("average precision is undefined: a score is infinite or not a number")
    if len(np.unique(labels)) < 2:
        raise MetricError("average precision is undefined: it needs real pictures and fake ones")
    return float(average_precision_score(labels, scores))


def decision_flips(
    logits: NDArray[np.floating], reference: NDArray[np.floating], threshold: float = 0.0
) -> NDArray[np.intp]:
    """Indices of the pictures on which two engines decide differently, ascending.

    Raises:
        MetricError: lengths differ.
    """
    if logits.shape != reference.shape:
        raise MetricError(f"flips need the same pictures, got {logits.shape} and {reference.shape} logits")
    return np.flatnonzero(decide(logits, threshold) != decide(reference, threshold))


def _check(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
    if scores.shape != labels.shape or scores.ndim != 1:
        raise MetricError(f"need as many scores as labels, got {scores.shape} and {labels.shape}")
    if not len(labels):
        raise MetricError("a metric of no pictures is undefined")
    if not np.isin(labels, (0, 1)).all():
        raise MetricError(f"labels must be 0 (real) or 1 (fake), got {np.unique(labels).tolist()}")
