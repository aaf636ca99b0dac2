"""From suites to scores: a task for each test set, a scorer for each engine, and what came out by engine and set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.loading import load_engine
from lfm_deploy.deployment.lineup import Candidate
from lfm_deploy.errors import OtherGpuError, SuiteError, UnavailableError
from lfm_deploy.pictures.fingerprints import fingerprint_files
from lfm_deploy.pictures.images import SkippedImage
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.scoring.identities import identify
from lfm_deploy.scoring.scorers import Reading, Scorer, Task
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.suites import CLASS_FOLDERS, Suite, TestSet


@dataclass(frozen=True, slots=True, kw_only=True)
class InBothClasses:
    """One picture of a suite that is real and fake at once: one of the labels is wrong.

    Attributes:
        suite: name of the suite.
        sha256: of the two files.
        real, fake: one of each class.
    """

    suite: str
    sha256: str
    real: Path
    fake: Path


def make_scorer(candidate: Candidate, *, required: bool = False) -> Scorer:
    """A scorer of an engine; one that is known not to run here has its reason already.

    Args:
        candidate: from ``find_candidates``.
        required: whether it is an error that it cannot run.

    Raises:
        ArtifactError: it is a TensorRT engine that is damaged or stale.
    """
    identity, reason = None, None
    try:
        identity = identify(candidate)
    except (UnavailableError, OtherGpuError) as error:
        reason = str(error)
    return Scorer(
        name=candidate.name,
        identity=identity,
        load=lambda: load_engine(
            candidate.path, device=candidate.device, spin=False, precision=candidate.asked_precision
        ),
        required=required,
        not_run=reason,
    )


def make_tasks(suite: Suite, reading: Reading, on_progress: Progress = ignore_progress) -> list[Task]:
    """A task for each test set of a suite, its files hashed."""
    paths = [image.path for part in suite.sets for image in part.images]
    what = f"looking at files of {suite.name}"
    prints = fingerprint_files(paths, lambda done, total: on_progress(what, done, total))
    tasks, start = [], 0
    for part in suite.sets:
        stop = start + len(part.images)
        tasks.append(
            Task(
                what=f"scoring {suite.name}",
                paths=paths[start:stop],
                prints=prints[start:stop],
                reading=reading,
            )
        )
        start = stop
    return tasks


def find_in_both(suite: Suite, tasks: Sequence[Task]) -> list[InBothClasses]:
    """Files of a suite that stand under both labels, one pair for each content."""
    first: dict[str, dict[int, Path]] = {}
    for part, task in zip(suite.sets, tasks, strict=True):
        for image, one in zip(part.images, task.prints, strict=True):
            if one is not None:
                first.setdefault(one.sha256, {}).setdefault(image.label, image.path)
    return [
        InBothClasses(suite=suite.name, sha256=sha256, real=files[0], fake=files[1])
        for sha256, files in first.items()
        if len(files) == len(CLASS_FOLDERS)
    ]


def collect_scores(
    suite: Suite, tasks: Sequence[Task]
) -> tuple[dict[str, list[tuple[str, Scores]]], list[SkippedImage]]:
    """What tasks that were run have found: by scorer the scores on each test set, and what could not be judged.

    Raises:
        SuiteError: of a test set no picture could be read, or only of one class.
    """
    scores: dict[str, list[tuple[str, Scores]]] = {}
    skipped: list[SkippedImage] = []
    for part, task in zip(suite.sets, tasks, strict=True):
        reasons = task.reasons
        skipped += [SkippedImage(task.paths[index], reason) for index, reason in reasons.items()]
        kept = [index for index in range(len(task.paths)) if index not in reasons]
        paths, labels = _readable(suite, part, kept)
        categories = tuple(part.images[index].category for index in kept)
        for name in task.found:
            found = Scores(paths=paths, labels=labels, logits=task.logits(name, kept), categories=categories)
            scores.setdefault(name, []).append((part.name, found))
    return scores, skipped


def _readable(suite: Suite, part: TestSet, kept: list[int]) -> tuple[tuple[Path, ...], NDArray[np.int64]]:
    """Paths and labels of the pictures that could be read."""
    labels = np.array([part.images[index].label for index in kept], dtype=np.int64)
    if len(set(labels.tolist())) < (2 if part.has_both_classes else 1):
        raise SuiteError(
            f"{suite.name}/{part.name}: of {len(part.images)} pictures {len(kept)} can be read, not of every class; "
            "look at the files with 'lfm-deploy verify --strict', which names the first"
        )
    return tuple(part.images[index].path for index in kept), labels
