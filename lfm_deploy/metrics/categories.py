"""Categories inside a test set, such as the classes of objects that a generator was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.metrics.decisions import accuracy, average_precision


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryResult:
    """One category of a test set: pictures of each class, accuracy, and AP where both classes are there."""

    name: str
    real: int
    fake: int
    acc: float
    ap: float | None


def measure_categories(
    categories: Sequence[str | None], labels: NDArray[np.integer], logits: NDArray[np.floating], threshold: float
) -> tuple[CategoryResult, ...]:
    """Accuracy and AP of each category, by name; points without intervals, for categories are small.

    Args:
        categories: category of each picture; None where it has none.
        labels: ``(N,)``; 0 is real, 1 is fake.
        logits: ``(N,)``; one that is no finite number decides "real", and its category has no AP.
        threshold: logits above it are "fake".
    """
    results = []
    for name in sorted({name for name in categories if name is not None}):
        chosen = np.array([category == name for category in categories])
        of_category, found = labels[chosen], logits[chosen]
        finite, fake = np.isfinite(found), int((of_category == 1).sum())
        ranks = 0 < fake < len(found) and bool(finite.all())
        results.append(
            CategoryResult(
                name=name,
                real=len(found) - fake,
                fake=fake,
                acc=accuracy(np.where(finite, found, -np.inf), of_category, threshold),
                ap=average_precision(found, of_category) if ranks else None,
            )
        )
    return tuple(results)
