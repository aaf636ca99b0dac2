"""Foreign detectors over suites: the same files as the engines', each read as its detector wants them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lfm_deploy.detectors.foreign_scores import detector_reading, make_detector_scorer
from lfm_deploy.errors import DetectorError, SuiteError
from lfm_deploy.pictures.images import SkippedImage
from lfm_deploy.progress import Progress
from lfm_deploy.scoring.score_cache import ScoreCache
from lfm_deploy.scoring.scorers import Task, plan_tasks, run_tasks
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.scoring.suite_scores import SuiteTasks, select_scores
from lfm_deploy.suites import TestSet

if TYPE_CHECKING:
    from lfm_deploy.detectors.foreign import ForeignDetector  # loads onnx, which runs without detectors do without


@dataclass(frozen=True, kw_only=True)
class DetectorScores:
    """What a foreign detector made of suites.

    Attributes:
        scores: names of the test sets with the scores on each, by the name of a suite.
        skipped: pictures that it could not judge; each reason begins with its name.
        cached: number of logits that came from the cache.
    """

    scores: dict[str, list[tuple[str, Scores]]]
    skipped: tuple[SkippedImage, ...]
    cached: int


def check_names(detectors: Sequence["ForeignDetector"], engines: Sequence[str]) -> None:
    """Refuse a detector that is called like an engine.

    Args:
        detectors: opened detectors.
        engines: names of the engines that they stand beside.

    Raises:
        DetectorError: a detector has the name of an engine; the message says which.
    """
    for detector in detectors:
        if detector.name in engines:
            raise DetectorError(f"{detector.name!r} is the name of an engine here; give the detector another 'name'")


def score_detector(
    detector: "ForeignDetector",
    planned: Sequence[SuiteTasks],
    cache: ScoreCache | None,
    batch: int,
    on_progress: Progress,
) -> DetectorScores:
    """Score suites by a detector; what was judged before is not read again.

    A detector may refuse pictures that others judge, such as those that are too small for its crop; its figures are of
    the others. Each batch is in the cache before the next one begins, so that a killed run costs one batch.

    Args:
        detector: opened detector.
        planned: suites with their files and fingerprints, from ``make_tasks``; their own answers stay as they are.
        cache: cache of logits; None for none.
        batch: most pictures at a time.
        on_progress: callback that gets what is done, the number of pictures, and their total.

    Raises:
        CacheError: the cache cannot be read or written.
        DetectorError: the network's answer is not what its contract says, or it fails on pictures of its own size.
        SuiteError: a test set has no picture that the detector can judge, or none of one of its classes.
    """
    scorer, reading = make_detector_scorer(detector), detector_reading(detector, batch)
    scores, skipped = dict[str, list[tuple[str, Scores]]](), list[SkippedImage]()
    for one in planned:
        what = f"{detector.name} on {one.suite.name}"
        tasks = [replace(task, what=what, reading=reading, found={}) for task in one.tasks]
        plan_tasks(tasks, [scorer], cache)
        run_tasks(tasks, [scorer], cache, on_progress)
        suite, parts = one.suite.name, zip(one.suite.sets, tasks, strict=True)
        scores[suite] = [(part.name, _select(detector.name, suite, part, task)) for part, task in parts]
        skipped += [
            SkippedImage(task.paths[index], f"{detector.name}: {reason}")
            for task in tasks
            for index, reason in task.reasons.items()
        ]
    return DetectorScores(scores=scores, skipped=tuple(skipped), cached=scorer.cached)


def open_all(paths: Sequence[Path], device: str) -> list["ForeignDetector"]:
    """Open detectors; their idle threads sleep, as engines work beside them.

    Args:
        paths: TOML files, one a detector; none loads nothing.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Raises:
        ArtifactError: a network cannot be loaded.
        DetectorError: a TOML file is bad or contradicts its network, or two have one name.
        UnavailableError: ONNX Runtime, or its provider for this device, is missing or fell back.
    """
    if not paths:
        return []
    from lfm_deploy.detectors.foreign import open_detectors

    return open_detectors(paths, device=device, spin=False)


def _select(detector: str, suite: str, part: TestSet, task: Task) -> Scores:
    """Scores of the pictures of a test set that the detector judged."""
    reasons = task.reasons
    kept = [index for index in range(len(task.paths)) if index not in reasons]
    if len({part.images[index].label for index in kept}) < (2 if part.has_both_classes else 1):
        raise SuiteError(
            f"{suite}/{part.name}: {detector} can judge {len(kept)} of {len(task.paths)} pictures, not of "
            "every class; 'too_small' in its TOML says what becomes of small pictures"
        )
    return select_scores(part, task, detector, kept)
