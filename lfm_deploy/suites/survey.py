"""What of a suite is there: missing test sets, unreadable pictures, and the same pixels more than once."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import SizePolicy
from lfm_deploy.errors import ImageError
from lfm_deploy.pictures.decoding import hash_pixels
from lfm_deploy.pictures.images import SkippedImage
from lfm_deploy.pictures.left_out import LeftOut
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.suites.catalogue import SuiteSpec, find_specs
from lfm_deploy.suites.confounders import Confounder, find_confounders, read_all_facts
from lfm_deploy.suites.folders import load_set
from lfm_deploy.suites.labelled import CLASS_FOLDERS, LabelledImage, TestSet
from lfm_deploy.suites.loading import data_folder, load_suites

# Pictures handed to the decoding threads at a time, so that Ctrl-C waits for these alone.
_WINDOW = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSurvey:
    """What of a test set is there.

    Attributes:
        name: name of the test set.
        real, fake: number of pictures of each class that can be read.
        categories: names of its categories; empty without any.
        missing: parts that are not there, in words; None where all are.
        unreadable: pictures that cannot be judged under the size policy of the suite.
        repeated: pictures whose pixels another one of the same class and set has as well.
    """

    name: str
    real: int
    fake: int
    categories: tuple[str, ...]
    missing: str | None
    unreadable: tuple[SkippedImage, ...]
    repeated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSurvey:
    """What of a suite is there.

    Attributes:
        name: name of the suite.
        size: size policy of the suite: a side in pixels, or ``"native"``.
        place: folder or list that the suite was read from.
        spec: catalogue entry of a published suite; None for a folder or list of one's own.
        sets: one entry a test set, also for one that is missing.
        in_both_classes: pairs of a real and a fake picture with the same pixels: one of the labels is wrong.
        left_out: counter of what was passed over in its folders, by kind.
        confounders: properties of files by which the classes differ; a detector of these would be right as well.
    """

    name: str
    size: SizePolicy
    place: Path
    spec: SuiteSpec | None
    sets: tuple[SetSurvey, ...]
    in_both_classes: tuple[tuple[Path, Path], ...]
    left_out: LeftOut
    confounders: tuple[Confounder, ...] = ()

    @property
    def is_fine(self) -> bool:
        """Whether all of it is there, can be read, and is in one class."""
        whole = all(part.missing is None and not part.unreadable for part in self.sets)
        return whole and not self.in_both_classes


def survey_suites(
    name: str | Path,
    data: Path | str | None = None,
    *,
    size: SizePolicy | None = None,
    on_progress: Progress = ignore_progress,
) -> list[SuiteSurvey]:
    """Decode every picture of suites, and count what is there; what is missing of published suites is listed.

    Args:
        name: name of a suite or group, or path of a folder or list; see ``load_suites``.
        data: folder of the published suites; None takes the environment variable LFM_DATA, else ``data`` in the current
            folder.
        size: size policy of a folder or list of one's own, 256 if None; published suites have their own.
        on_progress: function that is given the name of a step, how much of it is done, and of how much.

    Raises:
        SuiteError: a folder or list of one's own is no suite.
    """
    specs = find_specs(str(name))
    if not specs or size is not None:
        return [
            _survey_suite(suite.name, suite.size, Path(name), None, list(suite.sets), suite.left_out, on_progress)
            for suite in load_suites(name, data, size=size)
        ]
    found = []
    for spec in specs:
        place, left_out = data_folder(data) / spec.folder, LeftOut()
        sets = [
            load_set(place / part, part, left_out) if (place / part).is_dir() else TestSet(part, ())
            for part in spec.sets
        ]
        found.append(_survey_suite(spec.name, spec.size, place, spec, sets, left_out, on_progress))
    return found


def _survey_suite(
    name: str,
    size: SizePolicy,
    place: Path,
    spec: SuiteSpec | None,
    sets: list[TestSet],
    left_out: LeftOut,
    on_progress: Progress,
) -> SuiteSurvey:
    images = [image for part in sets for image in part.images]
    facts = read_all_facts([image.path for image in images], on_progress)
    digests: dict[Path, str] = {}
    reasons: dict[Path, str] = {}
    for done, (image, digest, reason) in enumerate(_hash_all(images, size), 1):
        if digest is None:
            reasons[image.path] = reason
        else:
            digests[image.path] = digest
        on_progress(f"reading {name}", done, len(images))
    return SuiteSurvey(
        name=name,
        size=size,
        place=place,
        spec=spec,
        sets=tuple(_survey_set(part, digests, reasons, None if spec is None else place / part.name) for part in sets),
        in_both_classes=_find_in_both(images, digests),
        left_out=left_out,
        confounders=find_confounders(name, sets, facts),
    )


def _survey_set(part: TestSet, digests: dict[Path, str], reasons: dict[Path, str], folder: Path | None) -> SetSurvey:
    """One test set; ``folder`` is where a published one must be."""
    readable = Counter(image.label for image in part.images if image.path in digests)
    different = {(image.label, digests[image.path]) for image in part.images if image.path in digests}
    missing = None
    if folder is not None:
        empty = [name for label, name in enumerate(CLASS_FOLDERS) if not part.count(label)]
        missing = "no such folder" if not folder.is_dir() else f"no picture in {' and '.join(empty)}" if empty else None
    return SetSurvey(
        name=part.name,
        real=readable[0],
        fake=readable[1],
        categories=part.categories,
        missing=missing,
        unreadable=tuple(SkippedImage(i.path, reasons[i.path]) for i in part.images if i.path in reasons),
        repeated=readable.total() - len(different),
    )


def _find_in_both(images: Sequence[LabelledImage], digests: dict[Path, str]) -> tuple[tuple[Path, Path], ...]:
    """For each picture that is in both classes of the suite, one real and one fake file."""
    first: dict[str, dict[int, Path]] = {}
    for image in images:
        if image.path in digests:
            first.setdefault(digests[image.path], {}).setdefault(image.label, image.path)
    return tuple((files[0], files[1]) for files in first.values() if len(files) == len(CLASS_FOLDERS))


def _hash_all(images: list[LabelledImage], size: SizePolicy) -> Iterator[tuple[LabelledImage, str | None, str]]:
    """Each picture, in order, with the digest of its pixels, or with the reason why it has none."""
    config = ModelConfig()

    def hash_one(image: LabelledImage) -> tuple[LabelledImage, str | None, str]:
        try:
            return image, hash_pixels(image.path, size, config), ""
        except ImageError as error:
            return image, None, str(error)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="read-image") as pool:
        for start in range(0, len(images), _WINDOW):
            yield from pool.map(hash_one, images[start : start + _WINDOW])
