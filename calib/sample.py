"""Which pictures calibrate: as many of each class, spread over categories, the same for the same seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lfm_deploy.errors import SuiteError
from lfm_deploy.pictures.images import find_images
from lfm_deploy.pictures.left_out import LeftOut
from lfm_deploy.suites import CLASS_FOLDERS


@dataclass(frozen=True, slots=True)
class Sampled:
    """A picture that may take part: its path below the folder, and its label (None where folders do not say)."""

    path: Path
    label: int | None


def order_pictures(folder: Path, seed: int, left_out: LeftOut | None = None) -> dict[int | None, list[Sampled]]:
    """Every picture of a folder by label, in the order in which to take them.

    Pictures below ``0_real`` and ``1_fake`` have labels; where there are any such, the others are left out. Within a
    label, categories (the folders that pictures lie in) take turns, and inside a category the order is random.

    Args:
        folder: folder of pictures: flat, with class folders, or with categories.
        seed: seed of the order, which is the same on every machine.
        left_out: counter of what is passed over, by kind.

    Raises:
        SuiteError: the folder is missing or holds no picture.
    """
    if not folder.is_dir():
        raise SuiteError(f"{folder}: no such folder; give the folder that your calibration pictures lie in")
    found = [path.relative_to(folder) for path in find_images(folder, left_out)]
    if not found:
        raise SuiteError(f"{folder}: no picture in it; put .png or .jpg files there, best into 0_real/ and 1_fake/")
    labels = {path: _label(path) for path in found}
    known = any(label is not None for label in labels.values())
    groups: dict[int | None, dict[str, list[Path]]] = {}
    for path in sorted(found, key=Path.as_posix):
        if not known or labels[path] is not None:
            groups.setdefault(labels[path], {}).setdefault(path.parent.as_posix(), []).append(path)
    generator = random.Random(seed)  # noqa: S311  # a sample, not a secret
    ordered: dict[int | None, list[Sampled]] = {}
    for label in sorted(groups, key=str):
        for paths in groups[label].values():
            generator.shuffle(paths)
        ordered[label] = [Sampled(path, label) for path in _take_turns(list(groups[label].values()))]
    return ordered


def _label(path: Path) -> int | None:
    for part in path.parts[:-1]:
        if part in CLASS_FOLDERS:
            return CLASS_FOLDERS.index(part)
    return None


def _take_turns(queues: list[list[Path]]) -> Iterator[Path]:
    for turn in range(max(map(len, queues))):
        for queue in queues:
            if turn < len(queue):
                yield queue[turn]
