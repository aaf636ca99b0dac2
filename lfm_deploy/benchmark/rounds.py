"""Who measures when, and what the measured times amount to.

A machine drifts: it warms up, others work on it, clocks change. In interleaved rounds (A B, A B, ...) a drift meets
every engine alike, and the rounds of one engine show how much of it there was.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# A figure that may be quoted rests on this much, at every point.
QUOTABLE_SECONDS = 3.0
QUOTABLE_RUNS = 10


@dataclass(frozen=True, slots=True)
class Turn:
    """One worker measures one batch size.

    Attributes:
        round: index of the round.
        name: name of the worker.
        batch: batch size; None for what has none, such as a ceiling.
    """

    round: int
    name: str
    batch: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long to measure each point (one engine at one batch size).

    Attributes:
        seconds: least time in seconds of all rounds together.
        rounds: number of turns in which that time is spent.
    """

    seconds: float = QUOTABLE_SECONDS
    rounds: int = 5

    @property
    def quick(self) -> bool:
        """Whether the figures are too thin to be quoted."""
        return self.seconds < QUOTABLE_SECONDS or self.rounds < 2

    @property
    def turn_seconds(self) -> float:
        """Least time of one turn in seconds."""
        return self.seconds / self.rounds

    @property
    def turn_runs(self) -> int:
        """Fewest runs in one turn; a quick look makes do with one."""
        return 1 if self.quick else math.ceil(QUOTABLE_RUNS / self.rounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What the run times of one point amount to.

    Attributes:
        runs: number of runs that were timed.
        fps: pictures per second: all pictures over all time, so that slow runs count.
        mean_ms, p50_ms, p90_ms, p95_ms, p99_ms: latency of a run in milliseconds; percentiles interpolate between runs.
        iqr_share: interquartile range over the median of all runs, a fraction.
        rounds_share: highest less lowest of the rounds' median times over their median, a fraction; 0 where there is
            one round.
        round_fps: pictures per second of every round.
    """

    runs: int
    fps: float
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    iqr_share: float
    rounds_share: float
    round_fps: tuple[float, ...]


def schedule_turns(batches: Mapping[str, Sequence[int]], rounds: int, first: Sequence[str] = ()) -> list[Turn]:
    """The turns of a measurement, in order.

    Every round goes through the batch sizes from the smallest up, and at each through all names that have it, so that
    neighbours in time are engines at one batch size.

    Args:
        batches: batch sizes by name of a worker.
        rounds: number of rounds.
        first: names of workers that measure something without a batch size at the start of each round.
    """
    sizes = sorted({size for own in batches.values() for size in own})
    turns = []
    for index in range(rounds):
        turns += [Turn(index, name, None) for name in first]
        turns += [Turn(index, name, size) for size in sizes for name, own in batches.items() if size in own]
    return turns


def summarise_times(rounds: Sequence[Sequence[float]], pictures: int) -> Statistics:
    """Statistics of run times.

    Args:
        rounds: seconds of each run, round by round; no round is empty.
        pictures: number of pictures that are judged in one run.
    """
    times = np.concatenate([np.asarray(part, dtype=np.float64) for part in rounds])
    p25, p50, p75, p90, p95, p99 = np.percentile(times, [25, 50, 75, 90, 95, 99]).tolist()
    medians = [statistics.median(part) for part in rounds]
    return Statistics(
        runs=len(times),
        fps=pictures * len(times) / float(times.sum()),
        mean_ms=1e3 * float(times.mean()),
        p50_ms=1e3 * p50,
        p90_ms=1e3 * p90,
        p95_ms=1e3 * p95,
        p99_ms=1e3 * p99,
        iqr_share=(p75 - p25) / p50,
        rounds_share=spread_of(medians),
        round_fps=tuple(pictures * len(part) / float(sum(part)) for part in rounds),
    )


def spread_of(values: Sequence[float]) -> float:
    """Highest less lowest over the median, a fraction.

    Args:
        values: figures of one kind, above 0; at least one.
    """
    return (max(values) - min(values)) / statistics.median(values)
