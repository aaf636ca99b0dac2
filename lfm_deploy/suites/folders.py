"""Suites as folders: the published ones, and one's own."""

from collections.abc import Iterable
from pathlib import Path

from lfm_deploy.contract import SizePolicy
from lfm_deploy.errors import SuiteError
from lfm_deploy.pictures.images import find_images
from lfm_deploy.pictures.left_out import LeftOut
from lfm_deploy.suites.catalogue import SuiteSpec, expected_tree
from lfm_deploy.suites.labelled import CLASS_FOLDERS, LabelledImage, Suite, TestSet, require_a_complete_set


def load_published(spec: SuiteSpec, data: Path) -> Suite:
    """A published suite below a data folder; errors as of ``load_suites``."""
    root = data / spec.folder
    missing = [name for name in spec.sets if not (root / name).is_dir()]
    if missing:
        raise SuiteError(
            f"{root}: missing {', '.join(missing)}; get the data from {spec.source}, and give --data the folder above "
            f"{spec.folder}, like this:\n{expected_tree(spec, data)}"
        )
    left_out = LeftOut()
    sets = tuple(load_set(root / name, name, left_out) for name in spec.sets)
    for part in sets:
        _require_both_classes(part, root / part.name)
    return Suite(spec.name, spec.size, sets, published=True, left_out=left_out)


def load_folder(folder: Path, size: SizePolicy, *, both_classes: bool = True) -> Suite:
    """A folder of one's own, a test set or a folder of test sets; errors as of ``load_suites``.

    Args:
        folder: path of the folder.
        size: size policy of the suite.
        both_classes: whether a test set needs pictures of both classes.
    """
    name, left_out = folder.resolve().name, LeftOut()
    if _class_folders(folder):
        part = load_set(folder, name, left_out)
        if both_classes or not part.images:
            _require_both_classes(part, folder)
        return Suite(name, size, (part,), left_out=left_out)
    children = [child for child in _subfolders(folder) if _holds_classes(child)]
    if not children:
        raise SuiteError(
            f"{folder}: no 0_real/ and 1_fake/ in it or in its subfolders; put real pictures into <test set>/0_real/ "
            "and fake ones into <test set>/1_fake/"
        )
    sets = tuple(part for child in children if (part := load_set(child, child.name, left_out)).images)
    if not any(part.images for part in sets):
        raise SuiteError(f"{folder}: no picture in any test set; known kinds are those that Pillow reads, like .png")
    if both_classes:
        require_a_complete_set(sets, folder, "each needs 0_real/ and 1_fake/")
    return Suite(name, size, sets, left_out=left_out)


def load_set(folder: Path, name: str, left_out: LeftOut | None = None) -> TestSet:
    """The pictures of a test set: in its class folders, or in those of its categories.

    As in the authors' protocol categories are pooled; each picture keeps the name of its own.

    Args:
        folder: path of the test set.
        name: name of the test set.
        left_out: counter of what is passed over.

    Raises:
        InputError: a folder in it cannot be listed.
    """
    homes: list[tuple[Path, str | None]] = [(folder, None)]
    if not _class_folders(folder):
        homes = [(child, child.name) for child in _subfolders(folder)]
    images = [
        LabelledImage(path, label, category)
        for label, class_folder in enumerate(CLASS_FOLDERS)
        for home, category in homes
        for path in find_images(home / class_folder, left_out)
    ]
    return TestSet(name, tuple(images))


def _require_both_classes(part: TestSet, folder: Path) -> None:
    if part.has_both_classes:
        return
    if not part.images:
        raise SuiteError(f"{folder}: no picture in 0_real/ and 1_fake/; put .png or .jpg files there")
    present, absent = (CLASS_FOLDERS[label] for label in (part.images[0].label, 1 - part.images[0].label))
    raise SuiteError(
        f"{folder}: pictures in {present}/ but none in {absent}/, so average precision is undefined; add {absent}/"
    )


def _class_folders(folder: Path) -> list[Path]:
    return [folder / name for name in CLASS_FOLDERS if (folder / name).is_dir()]


def _holds_classes(folder: Path) -> bool:
    return bool(_class_folders(folder)) or any(_class_folders(child) for child in _subfolders(folder))


def _subfolders(folder: Path) -> Iterable[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
