"""From the bytes of one picture to pixels, exactly as Pillow makes them."""

import hashlib
import io
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import SizePolicy
from lfm_deploy.errors import ImageError, first_line
from lfm_deploy.pictures.pixel_limit import check_pixels, describe_limit
from lfm_deploy.pictures.png_texts import drop_texts
from lfm_deploy.pictures.resizing import resize_picture

IMAGE_SUFFIXES = frozenset(
    [
        ".png",
        ".apng",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".jp2",
        ".webp",
        ".avif",
        ".bmp",
        ".tif",
        ".tiff",
        ".gif",
        ".ppm",
        ".pgm",
    ]
)

# What is opened, whatever a file is called; Pillow by itself would start Ghostscript on PostScript named .png.
_FORMATS = ("PNG", "JPEG", "JPEG2000", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "GIF", "PPM")

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
    content: Path | bytes, size: SizePolicy, config: ModelConfig, slot: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Pixels of one picture, as ``read_image`` describes them.

    Args:
        content: path of the file, or its bytes.
        size: side in pixels to resize to, or ``"native"``.
        config: architecture of the network, for the smallest native size.
        slot: uint8 ``(size, size, 3)`` to write the pixels into; None for a new array.

    Returns:
        uint8 ``(H, W, 3)``.

    Raises:
        ImageError: the picture cannot be read or judged; the message is the bare reason.
    """
    rgb = read_rgb(content, lambda width, height: _check_native(width, height, config) if size == "native" else None)
    if size != "native":
        rgb = resize_picture(rgb, size, size)
    if slot is None:
        return np.array(rgb)
    slot[...] = np.asarray(rgb)
    return slot


def hash_pixels(content: Path | bytes, size: SizePolicy, config: ModelConfig) -> str:
    """Hex digest of a picture's pixels before any resizing: equal for equal pictures in files that differ.

    Args:
        content: path of the file, or its bytes.
        size: policy under which the picture is to be judged; what cannot be judged has no digest.
        config: architecture of the network, for the smallest native size.

    Raises:
        ImageError: the picture cannot be read or judged; the message is the bare reason.
    """
    rgb = read_rgb(content, lambda width, height: _check_native(width, height, config) if size == "native" else None)
    width, height = rgb.size
    return hashlib.sha256(f"{width}x{height} ".encode() + rgb.tobytes()).hexdigest()


def read_rgb(content: Path | bytes, check_size: Callable[[int, int], None] = lambda *_: None) -> Image.Image:
    """One picture in RGB as Pillow decodes it, of its own size: neither turned by EXIF nor changed by a profile.

    Args:
        content: path of the file, or its bytes.
        check_size: function that is given width and height before anything is decoded; it may raise an ``ImageError``.

    Raises:
        ImageError: the picture cannot be read or judged; the message is the bare reason.
    """
    try:
        return _decode(_opened(content), check_size)
    except (ImageError, MemoryError):
        raise
    except ValueError as error:
        if "MAX_TEXT" not in str(error):
            raise ImageError(f"cannot be read: {first_line(error)}") from None
        # Generators write their prompts and workflows into PNGs; pixels do not depend on them.
        return read_rgb(drop_texts(content if isinstance(content, bytes) else content.read_bytes()), check_size)
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except Image.DecompressionBombError:  # Pillow's own limit, which is the same where none is set here
        raise ImageError(f"it is more than {describe_limit()}") from None
    except UnidentifiedImageError:  # its text names an address in memory where the bytes came from a shard
        raise ImageError("cannot be read: not a picture of a known format") from None
    except OSError as error:  # of the system: its text would repeat the path
        raise ImageError(f"cannot be read: {error.strerror or first_line(error)}") from None
    except Exception as error:  # decoders fail in many ways; each means that this file cannot be read
        raise ImageError(f"cannot be read: {first_line(error)}") from None


def _decode(opened: Path | io.BytesIO, check_size: Callable[[int, int], None]) -> Image.Image:
    with Image.open(opened, formats=_known_formats()) as picture:
        _check_before_decoding(picture)
        check_size(*picture.size)
        rgb = _to_rgb(picture)
        rgb.load()  # while the file is open
        return rgb


@cache
def _known_formats() -> tuple[str, ...]:
    """Those of the formats that this Pillow can open; photographs of several frames (MPO) come by way of JPEG."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _opened(content: Path | bytes) -> Path | io.BytesIO:
    """What Pillow opens, after refusing what is empty, and what could block for ever."""
    if isinstance(content, bytes):
        if not content:
            raise ImageError("the file is empty")
        return io.BytesIO(content)
    found = content.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ImageError(f"cannot be read: {'a folder' if stat.S_ISDIR(found.st_mode) else 'not a regular file'}")
    if found.st_size == 0:
        raise ImageError("the file is empty")
    return content


def _check_before_decoding(picture: Image.Image) -> None:
    width, height = picture.size
    check_pixels(width, height)
    if picture.mode.startswith(("I", "F")):
        # Pillow would clip the values to 0..255, which turns 16-bit pictures white.
        raise ImageError(f"mode {picture.mode} has more than 8 bits a channel; convert it to 8 bits first")


def _check_native(width: int, height: int, config: ModelConfig) -> None:
    rows, columns = config.map_size(height, width)
    if width % 2 or height % 2:
        raise ImageError(f"{width}x{height} has an odd side, which NPR is not defined for; crop it by a pixel")
    if rows * columns < config.positions:
        least = config.min_square
        raise ImageError(f"{width}x{height} is too small, the network needs {least}x{least} or as many pixels")


def _to_rgb(picture: Image.Image) -> Image.Image:
    # Pillow's own convert copies where there is nothing to do.
    if picture.mode == "RGB":
        return picture
    if picture.mode == "P" and isinstance(picture.info.get("transparency"), bytes):
        # The way that Pillow recommends; the colours are the same, and it does not warn.
        return picture.convert("RGBA").convert("RGB")
    return picture.convert("RGB")
