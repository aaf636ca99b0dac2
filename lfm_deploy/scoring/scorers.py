"""Logits through the cache: a scorer is loaded, and a picture decoded, only for what nobody has scored before."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import Contract, SizePolicy
from lfm_deploy.errors import OtherGpuError, UnavailableError
from lfm_deploy.pictures.decoders import PILLOW, PictureDecoder
from lfm_deploy.pictures.decoding import DECODING_VERSION
from lfm_deploy.pictures.fingerprints import Fingerprint
from lfm_deploy.pictures.images import ImageBatch, read_batches
from lfm_deploy.pictures.pixel_limit import most_pixels
from lfm_deploy.progress import Progress
from lfm_deploy.scoring.score_cache import ScoreCache, scorer_key


class LogitSource(Protocol):
    """What gives logits once it is loaded: an engine, or anything that takes what its reading gives."""

    @property
    def config(self) -> ModelConfig | None:
        """Config of the network, which sets the smallest native size; None where its reading does not ask for it."""
        ...

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32] | Sequence[float | str]:
        """Judge pictures of one size.

        Args:
            images: uint8 ``(N, H, W, 3)``, RGB, as the reading gives them.

        Returns:
            Logits float32 ``(N,)``, above 0 for fake; or a list with one entry a picture: its logit, or the reason why
            there is none.
        """
        ...

    def close(self) -> None:
        """Free memory and devices."""
        ...


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How picture files become arrays.

    Attributes:
        values: plain values for JSON, all that the arrays depend on besides the file.
        read: function that gives batches of paths in their order; it takes the config of the network that judges them.
            A picture that cannot be judged is in ``skipped`` of a batch.
    """

    values: Mapping[str, Any]
    read: Callable[[Sequence[Path], ModelConfig | None], Iterator[ImageBatch]]


@dataclass(kw_only=True)
class Scorer:
    """Something that gives logits, loaded when it has something to do.

    Attributes:
        name: name in reports, unique among the scorers of a job.
        identity: plain values for JSON, all that its logits depend on besides the picture and how it is read; None
            keeps it out of the cache.
        load: function that makes it ready; it raises UnavailableError or OtherGpuError where it cannot run here.
        required: whether it is an error that it cannot run here.
        not_run: reason why it cannot run here; None until that is found.
        cached: number of logits that came from the cache.
    """

    name: str
    identity: Mapping[str, Any] | None
    load: Callable[[], LogitSource]
    required: bool = False
    not_run: str | None = None
    cached: int = 0
    _source: LogitSource | None = field(default=None, init=False)

    @property
    def source(self) -> LogitSource:
        """What gives the logits, loaded at the first use.

        Raises:
            UnavailableError, OtherGpuError: the scorer cannot run here.
        """
        if self._source is None:
            self._source = self.load()
        return self._source

    def key(self, reading: Reading) -> str | None:
        """Hex digest under which its logits of pictures that are read so are kept; None keeps nothing."""
        if self.identity is None:
            return None
        return scorer_key(scorer=dict(self.identity), reading=dict(reading.values))

    def close(self) -> None:
        """Free memory and devices, if it was loaded."""
        if self._source is not None:
            self._source.close()
            self._source = None


@dataclass(kw_only=True)
class Task:
    """Pictures that every scorer is to score, read in one way.

    Attributes:
        what: text for progress; tasks with the same text count together.
        paths: files of the pictures, none twice.
        prints: fingerprints of these files, from ``fingerprint_files``.
        reading: way in which the files become arrays.
        found: answers by name of the scorer: for each picture its logit, the reason why there is none, or None while
            it is to be scored.
    """

    what: str
    paths: Sequence[Path]
    prints: Sequence[Fingerprint | None]
    reading: Reading
    found: dict[str, list[float | str | None]] = field(default_factory=dict)

    @property
    def reasons(self) -> dict[int, str]:
        """Why pictures could not be judged, by their index, in order; all others have a logit of every scorer."""
        reasons: dict[int, str] = {}
        for values in self.found.values():
            reasons |= {index: value for index, value in enumerate(values) if isinstance(value, str)}
        return dict(sorted(reasons.items()))

    def logits(self, scorer: str, indices: Sequence[int]) -> NDArray[np.float32]:
        """Logits of pictures that were judged.

        Args:
            scorer: name of the scorer.
            indices: N indices into ``paths``.

        Returns:
            float32 ``(N,)``; above 0 is fake.
        """
        return np.array([self.found[scorer][index] for index in indices], dtype=np.float32)


def published_reading(size: SizePolicy, batch: int, decoder: PictureDecoder = PILLOW) -> Reading:
    """Pictures as the authors' protocol reads them.

    Args:
        size: side in pixels to resize to, or ``"native"``.
        batch: most pictures in a batch; it is no part of ``values``, as no logit depends on it.
        decoder: decoder of the pictures.
    """

    def read(paths: Sequence[Path], config: ModelConfig | None) -> Iterator[ImageBatch]:
        return read_batches(paths, size, batch=batch, config=config, jpeg=decoder.jpeg)

    values = {
        "contract": Contract(size=size).as_dict(),
        "decoding": DECODING_VERSION,
        "most_pixels": most_pixels(),
        "decoder": decoder.describe(),
    }
    return Reading(values=values, read=read)


def plan_tasks(tasks: Sequence[Task], scorers: Sequence[Scorer], cache: ScoreCache | None) -> None:
    """Look up what is known, and load each scorer that is needed for the rest.

    A scorer that cannot run here gets its reason in ``not_run`` and is left out of the tasks: what was kept of it from
    another time would be half a result.

    Args:
        tasks: pictures with their fingerprints; each gets an entry a scorer in ``found``.
        scorers: scorers of all these tasks.
        cache: cache of logits; None knows nothing.

    Raises:
        CacheError: the cache cannot be read.
        UnavailableError: a required scorer cannot run here.
    """
    for scorer in scorers:
        if scorer.not_run is not None:
            continue
        found = [_look_up(task, scorer.key(task.reading), cache) for task in tasks]
        try:
            if any(value is None for values in found for value in values):
                _ = scorer.source
        except (UnavailableError, OtherGpuError) as error:
            if scorer.required:
                raise
            scorer.not_run = str(error)
            continue
        for task, values in zip(tasks, found, strict=True):
            task.found[scorer.name] = values
        scorer.cached += sum(isinstance(value, float) for values in found for value in values)


def run_tasks(
    tasks: Sequence[Task], scorers: Sequence[Scorer], cache: ScoreCache | None, on_progress: Progress
) -> None:
    """Score what is missing in planned tasks; each batch is kept at once, so that an interrupted run loses little.

    Args:
        tasks: tasks from ``plan_tasks``; their answers are completed.
        scorers: scorers that were planned with them, and perhaps others.
        cache: cache that keeps each batch; None keeps nothing.
        on_progress: callback that gets a task's ``what``, the number of pictures done, and their total.

    Raises:
        CacheError: the cache cannot be written.
    """
    totals: dict[str, int] = {}
    for task in tasks:
        totals[task.what] = totals.get(task.what, 0) + len(task.paths)
    done = dict.fromkeys(totals, 0)
    for task in tasks:
        active = [scorer for scorer in scorers if scorer.name in task.found]
        missing = [index for index in range(len(task.paths)) if any(v[index] is None for v in task.found.values())]
        done[task.what] += len(task.paths) - len(missing)
        on_progress(task.what, done[task.what], totals[task.what])
        for judged in _score_missing(task, missing, active, cache):
            done[task.what] += judged
            on_progress(task.what, done[task.what], totals[task.what])


def _look_up(task: Task, key: str | None, cache: ScoreCache | None) -> list[float | str | None]:
    if cache is None or key is None:
        return [None] * len(task.paths)
    known = cache.find(key, (one.sha256 for one in task.prints if one is not None))
    return [None if one is None else known.get(one.sha256) for one in task.prints]


def _score_missing(
    task: Task, missing: Sequence[int], scorers: Sequence[Scorer], cache: ScoreCache | None
) -> Iterator[int]:
    """Read pictures once for all scorers; yields how many of them are done, batch by batch."""
    if not missing:
        return
    places = {task.paths[index]: index for index in missing}
    needed = [one for one in scorers if any(task.found[one.name][index] is None for index in missing)]
    for group in task.reading.read([task.paths[index] for index in missing], needed[0].source.config):
        indices = [missing[index] for index in group.indices]
        reasons = {places[picture.path]: picture.reason for picture in group.skipped}
        for scorer in needed:
            values = task.found[scorer.name]
            found: dict[int, float | str] = {
                index: reason for index, reason in reasons.items() if values[index] is None
            }
            found |= _judge(scorer.source, group.images, indices, values)
            for index, value in found.items():
                values[index] = value
            _keep(task, scorer.key(task.reading), found, cache)
        yield len(indices) + len(reasons)


def _judge(
    source: LogitSource, images: NDArray[np.uint8], indices: Sequence[int], values: Sequence[float | str | None]
) -> dict[int, float | str]:
    """Answers, by index in the task, to those pictures of a batch that have none yet."""
    rows = [row for row, index in enumerate(indices) if values[index] is None]
    if not rows:
        return {}
    found = source.logits(images if len(rows) == len(indices) else images[rows])
    answers = found.tolist() if isinstance(found, np.ndarray) else found
    return dict(zip((indices[row] for row in rows), answers, strict=True))


def _keep(task: Task, key: str | None, found: Mapping[int, float | str], cache: ScoreCache | None) -> None:
    """Add to the cache, but for files that were written while they were being judged."""
    if cache is None or key is None:
        return
    kept = {}
    for index, value in found.items():
        one = task.prints[index]
        if one is not None and one.still_holds(task.paths[index]):
            kept[one.sha256] = value
    cache.add(key, kept)
