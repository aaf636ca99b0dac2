"""The fastest way to run a graph, by what was measured in rounds.

Every round gives each way a ratio to the plain way, the first. That stays the choice unless another one is faster by
3 % in the median and faster at all in three of four rounds.
"""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np

# Below this, the noise of a shared machine would choose.
_LEAST_GAIN = 1.03


class Way(Protocol):
    """How to run a graph: hashable values, with words for tables."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ...


W = TypeVar("W", bound=Way)
Rejected: TypeAlias = dict[W, tuple[str, float | None]]
"""Reasons why ways were not chosen, with their largest errors where they are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial(Generic[W]):
    """One way to run a graph, and how it did.

    Attributes:
        settings: the way.
        fps: pictures a second, the median of the rounds; None where the way was not timed.
        ratio: median of the ratios to the plain way of the same round.
        ratio_quartile: lower quartile of these ratios.
        max_error: largest |Δlogit| to the reference, or to the plain way where there is none.
        rejected: reason why the way was not timed, or not chosen; None for the choice.
    """

    settings: W
    fps: float | None
    ratio: float | None
    ratio_quartile: float | None
    max_error: float | None
    rejected: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        figures = {name: getattr(self, name) for name in ("fps", "ratio", "ratio_quartile", "max_error", "rejected")}
        if self.max_error is not None and not math.isfinite(self.max_error):
            figures["max_error"] = None  # JSON has no NaN; the reason says it
        return {"settings": self.settings.as_dict()} | figures


@dataclass(frozen=True, kw_only=True)
class Choice(Generic[W]):
    """The way that was chosen for a graph, and everything that was tried.

    Attributes:
        graph: path of the graph.
        chosen: the way.
        why: words for why it was chosen.
        tried: every way with its figures.
    """

    graph: Path
    chosen: W
    why: str
    tried: tuple[Trial[W], ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "chosen": self.chosen.as_dict(),
            "why": self.why,
            "tried": [trial.as_dict() for trial in self.tried],
        }


def choose_way(graph: Path, rates: dict[W, tuple[list[float], float]], rejected: Rejected[W]) -> Choice[W]:
    """The fastest way in most rounds; the plain one, which is the first, where that is not clear.

    Args:
        graph: path of the graph.
        rates: pictures a second in each round, and largest |Δlogit|, by way.
        rejected: reason, and largest |Δlogit| where it is known, by way that was not timed.
    """
    plain = next(iter(rates))
    ratios = {
        way: [mine / theirs for mine, theirs in zip(rows, rates[plain][0], strict=True)]
        for way, (rows, _) in rates.items()
    }
    median = {way: statistics.median(values) for way, values in ratios.items()}
    quartile = {way: float(np.quantile(values, 0.25)) for way, values in ratios.items()}
    clear = [way for way in rates if quartile[way] > 1 and median[way] > _LEAST_GAIN]
    chosen = max(clear, key=median.__getitem__) if clear else plain
    why = "no other way is clearly faster" if chosen == plain else f"{median[chosen]:.2f} x the speed of {plain}"
    tried = [
        Trial(
            settings=way,
            fps=statistics.median(rows),
            ratio=median[way],
            ratio_quartile=quartile[way],
            max_error=error,
            rejected=None if way == chosen else f"{median[way] / median[chosen]:.2f} x the speed of the choice",
        )
        for way, (rows, error) in rates.items()
    ]
    tried += [
        Trial(settings=way, fps=None, ratio=None, ratio_quartile=None, max_error=error, rejected=reason)
        for way, (reason, error) in rejected.items()
    ]
    return Choice(graph=graph, chosen=chosen, why=why, tried=tuple(tried))
