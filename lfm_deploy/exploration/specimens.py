"""Pictures to look at: each with its label and test set as far as folders say, and a balanced sample of them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lfm_deploy.contract import SizePolicy
from lfm_deploy.errors import SuiteError
from lfm_deploy.pictures.images import find_images
from lfm_deploy.suites import CLASS_FOLDERS, GROUPS, describe_suites, load_suites


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """One picture.

    Attributes:
        path: path of the file.
        label: label of the picture: 0 is real, 1 is fake; None where no folder says so.
        test_set: name of its test set.
        size: side in pixels that it is resized to, or ``"native"``.
    """

    path: Path
    label: int | None
    test_set: str
    size: SizePolicy


def find_specimens(pictures: Path | str, data: Path | str | None = None, *, size: SizePolicy = 256) -> list[Specimen]:
    """All pictures of a folder or of a suite.

    In a folder, ``0_real`` and ``1_fake`` anywhere above a picture are its label, and the folder below the given one is
    its test set; neither has to be there, and one class alone will do.

    Args:
        pictures: a folder, or a suite or group as ``load_suites`` takes them.
        data: folder of the published suites, for a suite's name; None takes the environment variable LFM_DATA, else
            ``data`` in the current folder.
        size: size policy of a folder or list; published suites have their own.

    Raises:
        SuiteError: the name is neither a folder nor a suite, or holds no picture.
    """
    folder = Path(pictures)
    is_published = str(pictures).lower() in {spec.name.lower() for spec in describe_suites()} | set(GROUPS)
    if folder.is_dir() and not is_published:
        found = [_place(folder, path, size) for path in find_images(folder)]
        if not found:
            raise SuiteError(f"{folder}: no picture in it; put .png or .jpg files there, best into 0_real/ and 1_fake/")
        return found
    suites = load_suites(pictures, data, size=None if is_published else size)
    return [
        Specimen(
            path=image.path,
            label=image.label,
            test_set=part.name if len(suites) == 1 else f"{suite.name}/{part.name}",
            size=suite.size,
        )
        for suite in suites
        for part in suite.sets
        for image in part.images
    ]


def draw_sample(specimens: Sequence[Specimen], limit: int, seed: int) -> list[Specimen]:
    """At most ``limit`` specimens, in their order: as many real as fake, and as many of each test set.

    What a small group cannot give, the others do. The same seed gives the same sample.

    Args:
        specimens: pictures to draw from, as ``find_specimens`` gives them.
        limit: number of pictures to draw at most.
        seed: seed of the draw; the same seed gives the same sample.
    """
    if len(specimens) <= limit:
        return list(specimens)
    groups: dict[int | None, dict[str, list[int]]] = {}
    for index, specimen in enumerate(specimens):
        groups.setdefault(specimen.label, {}).setdefault(specimen.test_set, []).append(index)
    generator = random.Random(seed)  # noqa: S311  # a sample, not a secret
    by_label = [groups[label] for label in sorted(groups, key=str)]
    chosen: list[int] = []
    for sets, share in zip(by_label, share_out(limit, [_count(sets) for sets in by_label]), strict=True):
        for indices, count in zip(sets.values(), share_out(share, [len(of) for of in sets.values()]), strict=True):
            chosen += generator.sample(indices, count)
    return [specimens[index] for index in sorted(chosen)]


def share_out(total: int, sizes: Sequence[int]) -> list[int]:
    """``total`` shared out as evenly as groups of these sizes allow; what is left over goes to the first ones."""
    shares = [0] * len(sizes)
    left = min(total, sum(sizes))
    while left:
        hungry = [index for index, size in enumerate(sizes) if shares[index] < size]
        each = max(1, left // len(hungry))
        for index in hungry:
            taken = min(each, sizes[index] - shares[index], left)
            shares[index] += taken
            left -= taken
    return shares


def _place(folder: Path, path: Path, size: SizePolicy) -> Specimen:
    above = path.relative_to(folder).parts[:-1]
    # The folder may itself be one of a class.
    label = next((CLASS_FOLDERS.index(part) for part in (*above, folder.resolve().name) if part in CLASS_FOLDERS), None)
    inside = above and above[0] not in CLASS_FOLDERS
    return Specimen(path=path, label=label, test_set=above[0] if inside else folder.resolve().name, size=size)


def _count(sets: dict[str, list[int]]) -> int:
    return sum(map(len, sets.values()))
