"""Foreign detectors in a verification: the same files, each read as its detector wants them, and rows without gates."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lfm_deploy.errors import DetectorError, SuiteError
from lfm_deploy.pictures.images import SkippedImage
from lfm_deploy.progress import Progress
from lfm_deploy.scoring.score_cache import ScoreCache
from lfm_deploy.scoring.scorers import Task
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.suites import Suite

if TYPE_CHECKING:
    from lfm_deploy.detectors.foreign import ForeignDetector  # loads onnx, which runs without detectors do without


def check_names(detectors: Sequence["ForeignDetector"], engines: Sequence[str]) -> None:
    """Refuse a detector that is called like an engine.

    Raises:
        DetectorError: one is; the message names it.
    """
    for detector in detectors:
        if detector.name in engines:
            raise DetectorError(f"{detector.name!r} is the name of an engine here; give the detector another 'name'")


def score_detector(
    detector: "ForeignDetector",
    suite: Suite,
    tasks: Sequence[Task],
    cache: ScoreCache | None,
    batch: int,
    on_progress: Progress,
) -> tuple[list[tuple[str, Scores]], list[SkippedImage], int]:
    """What a detector makes of a suite: scores of each test set, what it could not judge, and how many were cached.

    A detector may refuse pictures that others judge, such as those that are too small for its crop; its figures are of
    the others.

    Args:
        detector: opened.
        suite: its pictures.
        tasks: one for each test set, with the hashes of its files.
        cache: of scores; None for none.
        batch: pictures at a time.
        on_progress: called with what is done, how much, and of how much.

    Raises:
        DetectorError: as of ``ForeignDetector.score``.
        SuiteError: of a test set it can judge no picture, or only of one class.
    """
    from lfm_deploy.detectors.foreign_scores import score_cached

    total, done, cached = sum(len(task.paths) for task in tasks), 0, 0
    parts, skipped = [], list[SkippedImage]()
    for part, task in zip(suite.sets, tasks, strict=True):

        def count(judged: int, before: int = done) -> None:
            on_progress(f"{detector.name} on {suite.name}", before + judged, total)

        prints = [one.sha256 if one is not None else None for one in task.prints]
        found, known = score_cached(detector, task.paths, prints, cache, batch=batch, on_progress=count)
        done, cached = done + len(task.paths), cached + known
        kept = [index for index, value in enumerate(found) if not isinstance(value, str)]
        skipped += [
            SkippedImage(path, f"{detector.name}: {value}")
            for path, value in zip(task.paths, found, strict=True)
            if isinstance(value, str)
        ]
        images = [part.images[index] for index in kept]
        if part.has_both_classes and len({image.label for image in images}) < 2:
            raise SuiteError(
                f"{suite.name}/{part.name}: {detector.name} can judge {len(kept)} of {len(found)} pictures, not of "
                "both classes; 'too_small' in its TOML says what becomes of small pictures"
            )
        scores = Scores(
            paths=tuple(image.path for image in images),
            labels=np.array([image.label for image in images], dtype=np.int64),
            logits=np.array([found[index] for index in kept], dtype=np.float32),
            categories=tuple(image.category for image in images),
        )
        parts.append((part.name, scores))
    return parts, skipped, cached


def open_all(paths: Sequence[Path], device: str) -> list["ForeignDetector"]:
    """Open detectors; their idle threads sleep, as engines work beside them.

    Raises:
        DetectorError: a TOML file is bad, contradicts its network, or two have one name.
    """
    if not paths:
        return []
    from lfm_deploy.detectors.foreign import open_detectors

    return open_detectors(paths, device=device, spin=False)
