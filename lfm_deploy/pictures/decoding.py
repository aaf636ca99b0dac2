"""From the bytes of one picture to the pixels of the contract: exactly those that Pillow makes."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import SizePolicy
from lfm_deploy.errors import ImageError
from lfm_deploy.pictures.jpegs import JpegDecoder, decode_opened
from lfm_deploy.pictures.opening import decode_rgb, open_picture, open_rgb
from lfm_deploy.pictures.resizing import resize_picture
from lfm_deploy.pictures.self_test import check_format, check_resize

# Counts the ways in which this project has turned files into pixels: a logit that was kept belongs to one of them.
DECODING_VERSION = 2


@dataclass(frozen=True, slots=True)
class Source:
    """A picture to read.

    Attributes:
        name: name in results: the path of the file, or ``shard.zip/inner/name.png`` inside a shard.
        load: function that returns the path of the file or the bytes of the picture, in the thread that decodes it; an
            ``ImageError`` from it says why there is nothing to decode.
    """

    name: str
    load: Callable[[], Path | bytes]


def decode_picture(
    content: Path | bytes,
    size: SizePolicy,
    config: ModelConfig,
    slot: NDArray[np.uint8] | None = None,
    jpeg: JpegDecoder | None = None,
) -> NDArray[np.uint8]:
    """Pixels of one picture, as ``read_image`` describes them.

    Args:
        content: path of the file, or its bytes.
        size: side in pixels to resize to, or ``"native"``.
        config: architecture of the network, for the smallest native size.
        slot: uint8 ``(size, size, 3)`` to write the pixels into, at a fixed size; None for a new array.
        jpeg: decoder of the JPEG files that it can decode; None leaves them to Pillow.

    Returns:
        uint8 ``(H, W, 3)``.

    Raises:
        DecoderError: Pillow on this machine decodes this format, or resizes, to other pixels than the contract's.
        ImageError: the picture cannot be read or judged; the message is the bare reason.
    """
    if size != "native":
        check_resize()

    def check(picture: Image.Image) -> None:
        check_format(picture.format)
        _checker(size, config)(*picture.size)

    def decode(picture: Image.Image) -> Image.Image | NDArray[np.uint8]:
        if jpeg is not None:
            unchanged = size == "native" or picture.size == (size, size)
            found = decode_opened(picture, jpeg, slot if unchanged else None, resized=not unchanged)
            if found is not None:
                return found if unchanged else Image.fromarray(found)
        return decode_rgb(picture)

    picture = open_picture(content, check, decode)
    if isinstance(picture, np.ndarray):
        return picture
    if size != "native":
        picture = resize_picture(picture, size, size)
    if slot is None:
        return np.array(picture)
    slot[...] = np.asarray(picture)
    return slot


def hash_pixels(content: Path | bytes, size: SizePolicy, config: ModelConfig) -> str:
    """Hex digest of a picture's pixels before any resizing: equal for equal pictures in files that differ.

    Args:
        content: path of the file, or its bytes.
        size: policy under which the picture is to be judged; what cannot be judged has no digest.
        config: architecture of the network, for the smallest native size.

    Raises:
        DecoderError: Pillow on this machine decodes this format to other pixels than the contract's.
        ImageError: the picture cannot be read or judged; the message is the bare reason.
    """
    rgb = read_rgb(content, _checker(size, config))
    width, height = rgb.size
    return hashlib.sha256(f"{width}x{height} ".encode() + rgb.tobytes()).hexdigest()


def read_rgb(content: Path | bytes, check_size: Callable[[int, int], None] = lambda *_: None) -> Image.Image:
    """One picture in RGB as Pillow decodes it, of its own size: neither turned by EXIF nor changed by a profile.

    Args:
        content: path of the file, or its bytes.
        check_size: function that is given width and height before anything is decoded; it may raise an ``ImageError``.

    Raises:
        DecoderError: Pillow on this machine decodes this format to other pixels than the contract's.
        ImageError: the picture cannot be read or judged; the message is the bare reason.
    """

    def check(picture: Image.Image) -> None:
        check_format(picture.format)
        check_size(*picture.size)

    return open_rgb(content, check)


def _checker(size: SizePolicy, config: ModelConfig) -> Callable[[int, int], None]:
    """What to ask of width and height under a size policy."""
    if size != "native":
        return lambda *_: None
    return lambda width, height: _check_native(width, height, config)


def _check_native(width: int, height: int, config: ModelConfig) -> None:
    rows, columns = config.map_size(height, width)
    if width % 2 or height % 2:
        raise ImageError(f"{width}x{height} has an odd side, which NPR is not defined for; crop it by a pixel")
    if rows * columns < config.positions:
        least = config.min_square
        raise ImageError(f"{width}x{height} is too small, the network needs {least}x{least} or as many pixels")
