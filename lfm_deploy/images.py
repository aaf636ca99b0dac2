"""From picture files to pixels, exactly as Pillow makes them, in ordered batches."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import SizePolicy
from lfm_deploy.errors import ImageError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})

# Pillow warns above this many pixels and refuses above twice as many; here more are refused, as a decompression bomb.
_MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485
# A batch of native pictures holds no more pixels than this many for each picture that was asked for.
_PIXELS_A_PICTURE = 512 * 512


@dataclass(frozen=True, slots=True)
class SkippedImage:
    """A picture that could not be judged, and why."""

    path: Path
    reason: str


@dataclass(slots=True)
class ImageBatch:
    """Pictures of one size, in the order of the list that they come from.

    Attributes:
        indices: of the pictures in that list.
        images: uint8 ``(N, H, W, 3)``, RGB; N may be 0 where all were skipped.
        skipped: pictures that came before or between these and could not be judged.
    """

    indices: list[int]
    images: NDArray[np.uint8]
    skipped: list[SkippedImage] = field(default_factory=list)


def find_images(folder: Path) -> list[Path]:
    """Picture files in a folder and below, sorted; hidden files and folders, and other files, are left out."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):  # does not follow links, so loops cannot trap it
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return sorted(found)


def read_image(path: Path | str, size: SizePolicy = 256, config: ModelConfig | None = None) -> NDArray[np.uint8]:
    """Read one picture as the authors' protocol does: ``convert("RGB")``, then Pillow's bilinear ``resize``.

    EXIF orientation and colour profiles are not applied, transparency is dropped, the first frame of an animation
    counts.

    Args:
        path: of the file.
        size: side in pixels to resize to, or ``"native"`` for the picture as it is.
        config: of the network, for the smallest native size; the default is the published one.

    Returns:
        uint8 ``(H, W, 3)``.

    Raises:
        ImageError: it cannot be read, or cannot be judged at this size; the message has path and reason.
    """
    path = Path(path)
    try:
        return _read(path, size, config or ModelConfig())
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


def read_batches(
    paths: Sequence[Path],
    size: SizePolicy,
    *,
    batch: int,
    config: ModelConfig | None = None,
    workers: int | None = None,
) -> Iterator[ImageBatch]:
    """Read pictures in order, in threads of their own, while the caller works on the batch before.

    All pictures of a batch have one size; at native size a batch ends where the size changes. A picture that cannot be
    judged never stops or reorders the rest. About two batches are held, however long the list is.

    Args:
        paths: of the pictures.
        size: as of ``read_image``.
        batch: most pictures in a batch.
        config: as of ``read_image``.
        workers: threads; None is one for each core.
    """
    network = config or ModelConfig()
    current = ImageBatch([], np.empty((0, 0, 0, 3), np.uint8))
    held: list[NDArray[np.uint8]] = []

    def close() -> ImageBatch:
        nonlocal current, held
        full = current
        if held:
            full.images = np.stack(held)
        current, held = ImageBatch([], np.empty((0, 0, 0, 3), np.uint8)), []
        return full

    for index, result in _read_ahead(paths, size, network, ahead=batch, workers=workers):
        if isinstance(result, SkippedImage):
            current.skipped.append(result)
            continue
        pixels = result.shape[0] * result.shape[1] * (len(held) + 1)
        if held and (held[0].shape != result.shape or pixels > batch * _PIXELS_A_PICTURE):
            yield close()
        current.indices.append(index)
        held.append(result)
        if len(held) == batch:
            yield close()
    if held or current.skipped:
        yield close()


def _read_ahead(
    paths: Sequence[Path], size: SizePolicy, config: ModelConfig, *, ahead: int, workers: int | None
) -> Iterator[tuple[int, NDArray[np.uint8] | SkippedImage]]:
    """Results in order, while at most ``ahead`` later pictures are being read."""

    def read(path: Path) -> NDArray[np.uint8] | SkippedImage:
        try:
            return _read(path, size, config)
        except ImageError as error:
            return SkippedImage(path, str(error))

    waiting: deque[tuple[int, Future[NDArray[np.uint8] | SkippedImage]]] = deque()
    pool = ThreadPoolExecutor(workers or len(os.sched_getaffinity(0)), thread_name_prefix="read-image")
    try:
        for index, path in enumerate(paths):
            waiting.append((index, pool.submit(read, Path(path))))
            if len(waiting) > ahead:
                first, result = waiting.popleft()
                yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read(path: Path, size: SizePolicy, config: ModelConfig) -> NDArray[np.uint8]:
    """``read_image``, with the bare reason as the error."""
    try:
        if path.stat().st_size == 0:
            raise ImageError("the file is empty")
        with Image.open(path) as picture:
            _check_before_decoding(picture, size, config)
            rgb = _to_rgb(picture)
    except (ImageError, MemoryError):
        raise
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except Exception as error:  # decoders fail in many ways; each means that this file cannot be read
        raise ImageError(f"cannot be read: {_first_line(error)}") from None
    if size != "native":
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
    return np.array(rgb)


def _check_before_decoding(picture: Image.Image, size: SizePolicy, config: ModelConfig) -> None:
    width, height = picture.size
    if width * height > _MOST_PIXELS:
        raise ImageError(f"{width}x{height} pixels are more than {_MOST_PIXELS}: taken for a decompression bomb")
    if picture.mode.startswith(("I", "F")):
        # Pillow would clip the values to 0..255, which turns 16-bit pictures white.
        raise ImageError(f"mode {picture.mode} has more than 8 bits a channel; convert it to 8 bits first")
    if size == "native":
        rows, columns = config.map_size(height, width)
        if width % 2 or height % 2:
            raise ImageError(f"{width}x{height} has an odd side, which NPR is not defined for; crop it by a pixel")
        if rows * columns < config.k:
            least = config.min_square
            raise ImageError(f"{width}x{height} is too small, the network needs {least}x{least} or as many pixels")


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "P" and isinstance(picture.info.get("transparency"), bytes):
        # The way that Pillow recommends; the colours are the same, and it does not warn.
        return picture.convert("RGBA").convert("RGB")
    return picture.convert("RGB")


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
