"""How an engine decides once the fakes are stored as the real pictures of their set are."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import SizePolicy
from lfm_deploy.pictures.images import ImageBatch, read_batches
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.scoring.score_cache import ScoreCache
from lfm_deploy.scoring.scorers import Reading, Scorer, Task, plan_tasks, published_reading, run_tasks
from lfm_deploy.scoring.suite_scores import SuiteTasks
from lfm_deploy.suites import TestSet
from lfm_deploy.verification.alignment import Alignment
from lfm_deploy.verification.conditions import Condition, describe_encoders
from lfm_deploy.verification.envelope import name_set, summarise_condition
from lfm_deploy.verification.envelope_figures import Envelope

STORED = Condition("as stored", "the files as they are")
ALIGNED = Condition("aligned", "each fake stored as a real picture of its set: size, format, quality, sub-sampling")
_WHAT = "aligned fakes"


def measure_aligned(
    scorer: Scorer,
    planned: Sequence[SuiteTasks],
    *,
    threshold: float = 0.0,
    cache: ScoreCache | None = None,
    batch: int = 32,
    on_progress: Progress = ignore_progress,
) -> Envelope:
    """Judge the pictures as they are stored, and with aligned fakes.

    Args:
        scorer: scorer of the engine that judges, ``required``.
        planned: suites with their files and fingerprints; sets without both classes stay as they are.
        threshold: logit above which a picture is fake.
        cache: cache of logits; None remembers nothing.
        batch: most pictures at a time.
        on_progress: callback that gets what is done, the number of pictures, and their total.

    Returns:
        An envelope of two conditions: ``STORED`` and ``ALIGNED``.

    Raises:
        CacheError: the cache cannot be read or written.
        UnavailableError, OtherGpuError: the engine cannot run here.
    """
    suites = [one.suite for one in planned]
    sets = [(name_set(suite, part, len(suites)), part) for suite in suites for part in suite.sets]
    results = []
    found: list[Task] = []
    for condition in (STORED, ALIGNED):
        tasks = [
            _make_task(part, task, one.suite.size, batch, aligned=condition is ALIGNED)
            for one in planned
            for part, task in zip(one.suite.sets, one.tasks, strict=True)
        ]
        plan_tasks(tasks, [scorer], cache)
        if condition is ALIGNED:
            _keep_real(sets, tasks, found, scorer.name)
        run_tasks(tasks, [scorer], cache, on_progress)
        results.append(summarise_condition(condition, sets, tasks, scorer.name, threshold))
        found = tasks
    return Envelope(
        engine=scorer.name,
        suites=tuple(suite.name for suite in suites),
        conditions=tuple(results),
        cached=scorer.cached,
    )


def _make_task(part: TestSet, task: Task, size: SizePolicy, batch: int, *, aligned: bool) -> Task:
    reading = published_reading(size, batch)
    prints = {image.path: one for image, one in zip(part.images, task.prints, strict=True) if one is not None}
    real = [(image.path, prints[image.path]) for image in part.images if image.label == 0 and image.path in prints]
    if aligned and real and part.has_both_classes:
        fakes = {image.path: prints[image.path] for image in part.images if image.label == 1 and image.path in prints}
        reading = _read_aligned(reading, Alignment(real, fakes), size, batch)
    return replace(task, what=_WHAT, reading=reading, found={})


def _read_aligned(published: Reading, alignment: Alignment, size: SizePolicy, batch: int) -> Reading:
    def read(paths: Sequence[Path], config: ModelConfig | None) -> Iterator[ImageBatch]:
        return read_batches(paths, size, batch=batch, config=config, to_source=alignment.to_source)

    changed = {"aligned with": alignment.sha256, "what": ALIGNED.what, "encoders": describe_encoders()}
    return Reading(values={**published.values, **changed}, read=read)


def _keep_real(sets: Sequence[tuple[str, TestSet]], tasks: Sequence[Task], before: Sequence[Task], scorer: str) -> None:
    """Real pictures are what they were: their answers are taken over."""
    for (_, part), task, known in zip(sets, tasks, before, strict=True):
        for index, image in enumerate(part.images):
            if image.label == 0:
                task.found[scorer][index] = known.found[scorer][index]
