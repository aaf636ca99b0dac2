"""Training data on the disk, as ForenSynths lies there: ``{train,val}/<category>/{0_real,1_fake}/``."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import ImageError, SuiteError
from lfm_deploy.pictures.decoding import decode_picture
from lfm_deploy.pictures.images import find_images, read_batches
from lfm_deploy.pictures.left_out import LeftOut
from lfm_deploy.suites import CLASS_FOLDERS
from training.augmentation import Augmentation, augment

TRAIN, VAL = "train", "val"
DEPLOYED_SIDE = 256
_LISTED = 5


class TrainingPictures(Protocol):
    """What the loop learns from.

    Attributes:
        labels: int64 ``(N,)``; 0 is real, 1 is fake.
        unreadable: pictures that could not be read so far, with the reason.
    """

    @property
    def labels(self) -> NDArray[np.int64]:
        """0 or 1."""

    @property
    def unreadable(self) -> dict[str, str]:
        """By name."""

    def read(self, index: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Picture ``index``, augmented: uint8 ``(crop, crop, 3)``; safe to call from several threads."""


class ValidationPictures(Protocol):
    """What checkpoints are chosen by; attributes as of ``TrainingPictures``."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """0 or 1."""

    @property
    def unreadable(self) -> dict[str, str]:
        """By name."""

    def read_batches(self, rows: Sequence[int], batch: int) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
        """These pictures as they are deployed, uint8 ``(N, 256, 256, 3)``, with their numbers."""


@dataclass(frozen=True, kw_only=True)
class DataSplit:
    """Training and validation pictures, and a SHA-256 that changes with them."""

    training: TrainingPictures
    validation: ValidationPictures
    sha256: str
    left_out: LeftOut = field(default_factory=LeftOut)


@dataclass(frozen=True, kw_only=True)
class PictureFiles:
    """Files of one split, the real ones first.

    Attributes:
        root: folder of the split.
        paths: paths of the pictures.
        labels: int64 ``(N,)``; 0 is real, 1 is fake.
    """

    root: Path
    paths: tuple[Path, ...]
    labels: NDArray[np.int64]


@dataclass(kw_only=True)
class TrainingFolder:
    """Training pictures in files: resized with Pillow's bilinear filter, then augmented.

    A file that cannot be read is noted, and the next one of its class takes its place: which that is depends on the
    files alone, so that a run can be repeated.

    Attributes:
        files: files of the training split.
        resize: side in pixels.
        augmentation: changes that are made to a picture after resizing.
        unreadable: reason why a file could not be read, by its path.
    """

    files: PictureFiles
    resize: int
    augmentation: Augmentation
    unreadable: dict[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 ``(N,)``."""
        return self.files.labels

    def read(self, index: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Picture ``index``, or the next of its class that can be read: uint8 ``(crop, crop, 3)``.

        Raises:
            SuiteError: no file of this class can be read.
        """
        label = int(self.labels[index])
        first, end = np.searchsorted(self.labels, [label, label + 1]).tolist()  # the real ones come first
        for candidate in (*range(index, end), *range(first, index)):
            path = self.files.paths[candidate]
            if str(path) in self.unreadable:
                continue
            try:
                picture = decode_picture(path, self.resize, ModelConfig())
            except ImageError as error:
                self.unreadable[str(path)] = str(error)
                continue
            return augment(picture, rng, self.augmentation)
        raise _none_readable(self.files.root, CLASS_FOLDERS[label], self.unreadable)


@dataclass(kw_only=True)
class ValidationFolder:
    """Validation pictures in files: resized to 256x256 without a crop, as the deployed network sees them.

    Attributes:
        files: files of the validation split.
        unreadable: reason why a file could not be read, by its path; such files are left out of the metrics.
    """

    files: PictureFiles
    unreadable: dict[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 ``(N,)``."""
        return self.files.labels

    def read_batches(self, rows: Sequence[int], batch: int) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
        """Batches in the order of ``rows``, with their numbers; unreadable files are missing."""
        for read in read_batches([self.files.paths[row] for row in rows], DEPLOYED_SIDE, batch=batch):
            self.unreadable.update({str(skipped.path): skipped.reason for skipped in read.skipped})
            if read.indices:
                yield [rows[index] for index in read.indices], read.images


def load_folders(root: Path, classes: Sequence[str], resize: int, augmentation: Augmentation) -> DataSplit:
    """Both splits of a folder.

    Args:
        root: folder that holds ``train/`` and ``val/``.
        classes: categories to take; an empty list takes all of them.
        resize: side in pixels to which training pictures are resized.
        augmentation: changes that are made to training pictures.

    Raises:
        SuiteError: a folder, category or class is missing, or holds no picture.
    """
    if not root.is_dir():
        raise SuiteError(f"{root}: no such folder; --data takes the folder that holds {TRAIN}/ and {VAL}/")
    left_out = LeftOut()
    train, val = (_find_files(root / split, classes, left_out) for split in (TRAIN, VAL))
    digest = hashlib.sha256()
    for files in (train, val):
        for path, label in zip(files.paths, files.labels, strict=True):
            digest.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0{label}\n".encode())
    return DataSplit(
        training=TrainingFolder(files=train, resize=resize, augmentation=augmentation),
        validation=ValidationFolder(files=val),
        sha256=digest.hexdigest(),
        left_out=left_out,
    )


def _find_files(root: Path, classes: Sequence[str], left_out: LeftOut) -> PictureFiles:
    found: tuple[list[Path], list[Path]] = ([], [])
    for home in _find_categories(root, classes):
        for label, name in enumerate(CLASS_FOLDERS):
            if not (home / name).is_dir():
                raise SuiteError(f"{home}: no {name}/ in it; every category needs {' and '.join(CLASS_FOLDERS)}")
            pictures = find_images(home / name, left_out)
            if not pictures:
                raise SuiteError(f"{home / name}: no picture in it; known kinds are those that Pillow reads, like .png")
            found[label].extend(pictures)
    labels = np.repeat(np.arange(2, dtype=np.int64), [len(found[0]), len(found[1])])
    return PictureFiles(root=root, paths=(*found[0], *found[1]), labels=labels)


def _find_categories(root: Path, classes: Sequence[str]) -> list[Path]:
    """Folders of the categories, or of the split itself where it has its classes directly."""
    shape = f"{root.name}/<category>/{{{','.join(CLASS_FOLDERS)}}}"
    if not root.is_dir():
        raise SuiteError(f"{root}: no such folder; training data lies as {TRAIN}/... and {VAL}/..., each {shape}")
    present = sorted(child.name for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    if not classes and set(CLASS_FOLDERS) & set(present):
        return [root]
    if missing := [name for name in classes if name not in present]:
        raise SuiteError(
            f"{root}: no category {', '.join(missing)}; there are {', '.join(present[:20]) or 'none'}; "
            "choose with --classes"
        )
    if not present:
        raise SuiteError(f"{root}: no category in it; training data lies as {shape}")
    return [root / name for name in (classes or present)]


def _none_readable(root: Path, name: str, unreadable: dict[str, str]) -> SuiteError:
    path, reason = next(iter(unreadable.items()))
    return SuiteError(f"{root}: none of the pictures in {name}/ can be read, such as {path}: {reason}")


def describe_unreadable(unreadable: dict[str, str]) -> list[str]:
    """Lines for people: the first few files that could not be read, and how many there are."""
    lines = [f"unreadable: {path}: {reason}" for path, reason in sorted(unreadable.items())[:_LISTED]]
    if len(unreadable) > _LISTED:
        lines.append(f"... and {len(unreadable) - _LISTED} more could not be read")
    return lines
