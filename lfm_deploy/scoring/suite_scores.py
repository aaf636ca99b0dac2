"""From suites to scores: a task for each test set, a scorer for each engine, and what came out by engine and set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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
class SuiteTasks:
    """A suite whose files were hashed, once for all that judge them.

    Attributes:
        suite: suite whose files they are.
        tasks: one task a test set, in the order of the suite.
    """

    suite: Suite
    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InBothClasses:
    """One picture of a suite that is real and fake at once: one of the labels is wrong.

    Attributes:
        suite: name of the suite.
        sha256: hex digest of the content that both files have.
        real, fake: first file of each class with that content.
    """

    suite: str
    sha256: str
    real: Path
    fake: Path


def make_scorer(candidate: Candidate, *, required: bool = False) -> Scorer:
    """A scorer of an engine; one that is known not to run here has its reason already.

    Args:
        candidate: engine from ``find_candidates``.
        required: whether it is an error that it cannot run here.

    Raises:
        ArtifactError: a TensorRT engine is damaged or stale.
        UnavailableError, OtherGpuError: a required TensorRT engine cannot run here.
    """
    identity, reason = None, None
    try:
        identity = identify(candidate)
    except (UnavailableError, OtherGpuError) as error:
        if required:
            raise
        reason = str(error)
    return Scorer(
        name=candidate.name,
        identity=identity,
        load=lambda: load_engine(candidate.path, device=candidate.device, spin=False, **candidate.form),
        required=required,
        not_run=reason,
    )


def make_tasks(suite: Suite, reading: Reading, on_progress: Progress = ignore_progress) -> SuiteTasks:
    """A task for each test set of a suite, its files hashed.

    Args:
        suite: suite from ``load_suites``.
        reading: way in which the files become arrays.
        on_progress: callback that gets what is done, the number of files, and their total.
    """
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
    return SuiteTasks(suite=suite, tasks=tuple(tasks))


def find_in_both(planned: SuiteTasks) -> list[InBothClasses]:
    """Files of a suite that stand under both labels, one pair for each content.

    Args:
        planned: suite with the fingerprints of its files.
    """
    first: dict[str, dict[int, Path]] = {}
    for part, task in zip(planned.suite.sets, planned.tasks, strict=True):
        for image, one in zip(part.images, task.prints, strict=True):
            if one is not None:
                first.setdefault(one.sha256, {}).setdefault(image.label, image.path)
    return [
        InBothClasses(suite=planned.suite.name, sha256=sha256, real=files[0], fake=files[1])
        for sha256, files in first.items()
        if len(files) == len(CLASS_FOLDERS)
    ]


def collect_scores(planned: SuiteTasks) -> tuple[dict[str, list[tuple[str, Scores]]], list[SkippedImage]]:
    """What tasks that were run have found: by scorer the scores on each test set, and what could not be judged.

    Args:
        planned: suite whose tasks were run.

    Raises:
        SuiteError: a test set has no picture that could be read, or lost one of its classes.
    """
    scores: dict[str, list[tuple[str, Scores]]] = {}
    skipped: list[SkippedImage] = []
    for part, task in zip(planned.suite.sets, planned.tasks, strict=True):
        reasons = task.reasons
        skipped += [SkippedImage(task.paths[index], reason) for index, reason in reasons.items()]
        kept = [index for index in range(len(task.paths)) if index not in reasons]
        _check_classes(planned.suite, part, kept)
        for name in task.found:
            scores.setdefault(name, []).append((part.name, select_scores(part, task, name, kept)))
    return scores, skipped


def select_scores(part: TestSet, task: Task, scorer: str, kept: Sequence[int]) -> Scores:
    """Scores of some pictures of a test set, all of which a scorer has judged.

    Args:
        part: test set that the task is of.
        task: task that was run.
        scorer: name of the scorer.
        kept: indices of the pictures, ascending.
    """
    images = [part.images[index] for index in kept]
    return Scores(
        paths=tuple(image.path for image in images),
        labels=np.array([image.label for image in images], dtype=np.int64),
        logits=task.logits(scorer, kept),
        categories=tuple(image.category for image in images),
    )


def _check_classes(suite: Suite, part: TestSet, kept: Sequence[int]) -> None:
    """Refuse a test set of which a class is lost."""
    if len({part.images[index].label for index in kept}) < (2 if part.has_both_classes else 1):
        raise SuiteError(
            f"{suite.name}/{part.name}: of {len(part.images)} pictures {len(kept)} can be read, not of every class; "
            "look at the files with 'lfm-deploy verify --strict', which names the first"
        )
