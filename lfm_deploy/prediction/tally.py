"""What all processes of one job are doing: pictures done so far, and how often each piece of work was begun in vain.

It is one object for all of them, as an actor of its own under Ray, and outlives whichever process dies.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """A piece of work that a process has begun and not ended.

    Attributes:
        name: name of the piece for people.
        host: name of the machine.
        process: number of the process on it.
        pictures: number of pictures that were judged so far.
        actor: handle by which Ray ends the process; None outside of Ray.
        idle_s: seconds since the piece was begun, or pictures of it were judged.
    """

    name: str
    host: str
    process: int
    pictures: int = 0
    actor: Any = field(default=None, compare=False)
    idle_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """A job at one moment.

    Attributes:
        pictures: number of pictures that were judged, with those of the pieces that are under way.
        under_way: pieces that were begun and not ended, one a process; a process that has died is among them until
            another has taken its piece.
    """

    pictures: int
    under_way: tuple[UnderWay, ...]


class Tally:
    """Counts of one job, by the keys of its pieces."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin a job.

        Args:
            clock: function that gives the time in seconds, one clock for all processes.
        """
        self._clock = clock
        self._begun: Counter[str] = Counter()
        self._under_way: dict[str, UnderWay] = {}
        self._seen: dict[str, float] = {}
        self._pictures = 0

    def begin(self, key: str, name: str, host: str, process: int, actor: Any = None) -> int:
        """A process begins a piece.

        Args:
            key: key of the piece.
            name: name of it for people.
            host: name of the machine.
            process: number of the process on it.
            actor: handle of the actor that it is; None outside of Ray.

        Returns:
            How often it was begun and not ended, with this time: all others have died with it.
        """
        self._begun[key] += 1
        self._under_way[key] = UnderWay(name=name, host=host, process=process, actor=actor)
        self._seen[key] = self._clock()
        return self._begun[key]

    def advance(self, key: str, pictures: int) -> None:
        """Pictures of a piece were judged.

        Args:
            key: key of the piece.
            pictures: number of pictures since the last time.
        """
        if (found := self._under_way.get(key)) is not None:
            self._under_way[key] = replace(found, pictures=found.pictures + pictures)
            self._seen[key] = self._clock()

    def end(self, key: str, pictures: int = 0) -> None:
        """A piece is done.

        Args:
            key: key of the piece.
            pictures: number of pictures that were judged in it.
        """
        self._begun.pop(key, None)
        self._under_way.pop(key, None)
        self._seen.pop(key, None)
        self._pictures += pictures

    def read(self) -> JobState:
        """The job as it is now."""
        now = self._clock()
        under_way = tuple(replace(found, idle_s=now - self._seen[key]) for key, found in self._under_way.items())
        return JobState(pictures=self._pictures + sum(found.pictures for found in under_way), under_way=under_way)
