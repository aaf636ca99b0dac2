"""A condition that an engine must meet, judged by a figure's interval and not by its point."""

from dataclasses import dataclass
from enum import StrEnum

from lfm_deploy.metrics.estimate import Estimate
from lfm_deploy.metrics.sample_size import is_decided


class Outcome(StrEnum):
    """What a gate came to."""

    HOLDS = "holds"
    """The whole interval is within the limit."""
    FAILS = "fails"
    """The whole interval is beyond it, or there is no figure."""
    UNDECIDED = "undecided"
    """The limit is inside the interval: the sample is too small to say."""


class VerdictOutcome(StrEnum):
    """What a verification came to."""

    PASSED = "passed"
    """An engine was compared, and all gates hold."""
    FAILED = "failed"
    """A gate fails."""
    UNDECIDED = "undecided"
    """No gate fails, but the pictures are too few for one to hold."""
    NOTHING = "nothing"
    """No engine ran beside the reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One condition that an engine must meet to be handed over: a figure is at most ``limit``.

    Attributes:
        suite: name of the pictures that were judged.
        name: name of the figure, with its unit.
        value: figure of these pictures; None where it does not exist.
        low, high: the figure's 95 % interval; ``value`` itself where the gate is about these very pictures.
        limit: largest value that is allowed, in the figure's unit.
        outcome: result of the gate.
        need: number of pictures like these that would decide the gate, if what was seen goes on; None where it is
            decided, or where no number of pictures would do.
        text: result in one line.
    """

    suite: str
    name: str
    value: float | None
    low: float | None
    high: float | None
    limit: float
    outcome: Outcome
    need: int | None
    text: str


def judge_exactly(suite: str, name: str, value: float | None, limit: float) -> Gate:
    """A gate about the very pictures that were seen: there is no interval. What does not exist does not hold."""
    holds = value is not None and value <= limit
    return Gate(
        suite=suite,
        name=name,
        value=value,
        low=value,
        high=value,
        limit=limit,
        outcome=Outcome.HOLDS if holds else Outcome.FAILS,
        need=None,
        text=f"{name} is {'undefined' if value is None else f'{value:.3g}'}, allowed {limit:g}",
    )


def judge_interval(suite: str, name: str, estimate: Estimate, limit: float, *, pictures: int, need: int | None) -> Gate:
    """A gate about all pictures of which these are a sample.

    Args:
        suite: name of the pictures.
        name: name of the figure.
        estimate: figure with its interval, 0 or above.
        limit: largest value that is allowed, in the figure's unit.
        pictures: number of pictures that were seen.
        need: number of pictures that would decide the gate; None where no number would do.
    """
    low, high = estimate.low, estimate.high
    decided = is_decided(low, high, limit)
    text = f"{name} is {estimate.value:.3g} (95 %: {low:.3g} to {high:.3g}), allowed {limit:g}"
    if not decided and need is None:
        text += ": undecided, and so close to the limit that no number of pictures would decide it"
    elif not decided:
        text += f": undecided, need ≥ {need:,} pictures like these (have {pictures:,})"
    return Gate(
        suite=suite,
        name=name,
        value=estimate.value,
        low=low,
        high=high,
        limit=limit,
        outcome=(Outcome.HOLDS if high <= limit else Outcome.FAILS) if decided else Outcome.UNDECIDED,
        need=None if decided else need,
        text=text,
    )
