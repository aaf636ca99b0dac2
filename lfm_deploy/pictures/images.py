"""From picture files to pixels, exactly as Pillow makes them, in ordered batches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import SizePolicy
from lfm_deploy.errors import ImageError
from lfm_deploy.pictures.decoding import Source, decode_picture
from lfm_deploy.pictures.folders import walk_images
from lfm_deploy.pictures.jpegs import JpegDecoder
from lfm_deploy.pictures.left_out import LeftOut
from lfm_deploy.pictures.pipeline import Decoder, read_groups
from lfm_deploy.pictures.sources import file_source


@dataclass(frozen=True, slots=True)
class SkippedImage:
    """A picture that could not be judged, and why."""

    path: Path
    reason: str


@dataclass(slots=True)
class ImageBatch:
    """Pictures of one size, in the order of the list that they come from.

    Attributes:
        indices: positions of the pictures in that list.
        images: uint8 ``(N, H, W, 3)``, RGB; N may be 0 where all were skipped.
        skipped: pictures near these in the list that could not be judged.
    """

    indices: list[int]
    images: NDArray[np.uint8]
    skipped: list[SkippedImage] = field(default_factory=list)


def find_images(folder: Path, left_out: LeftOut | None = None) -> list[Path]:
    """Picture files in a folder and below, sorted; hidden files and folders, and other files, are left out.

    Args:
        folder: path of the folder to look into; a missing one holds no picture.
        left_out: counter of what is passed over.

    Raises:
        InputError: a folder in it cannot be listed.
    """
    return list(walk_images(folder, left_out))


def read_image(path: Path | str, size: SizePolicy = 256, config: ModelConfig | None = None) -> NDArray[np.uint8]:
    """Read one picture as the authors' protocol does: ``convert("RGB")``, then Pillow's bilinear ``resize``.

    EXIF orientation and colour profiles are not applied, transparency is dropped, the first frame of an animation
    counts.

    Args:
        path: path of the file.
        size: side in pixels to resize to, or ``"native"`` for the picture as it is.
        config: architecture of the network, for the smallest native size; None is the published one.

    Returns:
        uint8 ``(H, W, 3)``.

    Raises:
        ImageError: the file cannot be read, or cannot be judged at this size; the message has path and reason.
    """
    path = Path(path)
    try:
        return decode_picture(path, size, config or ModelConfig())
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


def read_batches(
    paths: Sequence[Path],
    size: SizePolicy,
    *,
    batch: int,
    config: ModelConfig | None = None,
    workers: int | None = None,
    to_source: Callable[[Path], Source] = file_source,
    decode: Decoder | None = None,
    jpeg: JpegDecoder | None = None,
) -> Iterator[ImageBatch]:
    """Read pictures in order, in threads of their own, while the caller works on the batch before.

    All pictures of a batch have one size. A picture that cannot be judged never stops or reorders the rest. About
    three batches are held, however long the list is.

    Args:
        paths: paths of the pictures.
        size: side in pixels to resize to, or ``"native"`` for the pictures as they are.
        batch: number of pictures in a batch at most.
        config: architecture of the network, for the smallest native size; None is the published one.
        workers: decoding threads; None is one for each core.
        to_source: function that returns the source to decode for a path, by the same name; the default is the file.
        decode: function that decodes pictures for another detector than LFM, at this size; None is ``decode_picture``.
        jpeg: decoder of JPEG files for ``decode_picture``; None leaves them to Pillow.
    """
    sources = map(to_source, paths)
    groups = read_groups(sources, size, batch=batch, config=config, workers=workers, decode=decode, jpeg=jpeg)
    for group in groups:
        skipped = [SkippedImage(Path(group.names[offset]), reason) for offset, reason in group.reasons.items()]
        for offsets, images in group.runs or [([], np.empty((0, 0, 0, 3), np.uint8))]:
            yield ImageBatch([group.start + offset for offset in offsets], images, skipped)
            skipped = []
