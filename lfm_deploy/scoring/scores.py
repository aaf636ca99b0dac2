"""One engine's logits over one test set: what every table is drawn from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.errors import MetricError


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One engine's logits over one test set, with the pictures they belong to.

    Attributes:
        paths: N files of the pictures that could be judged, in order.
        labels: int64 ``(N,)``; 0 is real, 1 is fake.
        logits: float32 ``(N,)``; above the threshold is fake.
        categories: category of each picture inside the test set; None where it has none. Left out, no picture has one.

    Raises:
        MetricError: labels, logits or categories are more or fewer than the pictures.
    """

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    categories: tuple[str | None, ...] = ()

    def __post_init__(self) -> None:
        """Fill in that no picture has a category; refuse what does not belong together."""
        object.__setattr__(self, "categories", self.categories or (None,) * len(self.paths))
        if not len(self.paths) == len(self.labels) == len(self.logits) == len(self.categories):
            raise MetricError("scores need as many labels, logits and categories as pictures")
