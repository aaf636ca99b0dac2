"""From a file to Pillow's RGB: which formats are opened, what is refused before decoding, and the reasons in words."""

import io
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from PIL import Image, UnidentifiedImageError

from lfm_deploy.errors import DeployError, ImageError, TooManyPixelsError, UnknownFormatError, first_line
from lfm_deploy.pictures.pixel_limit import check_pixels, describe_limit
from lfm_deploy.pictures.png_texts import drop_texts

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
        ".heic",
        ".heif",
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

# Of ISO base media files, those whose pictures are coded by HEVC; mif1 and msf1 stand for any coding.
_HEIF_BRANDS = frozenset([b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"])
_HEAD_BYTES = 12

Found = TypeVar("Found")
Check = Callable[[Image.Image], None]
"""What is asked about a picture before anything is decoded; it may raise an error."""


def open_rgb(content: Path | bytes, check: Check = lambda _: None) -> Image.Image:
    """One picture in RGB as Pillow decodes it, of its own size: neither turned by EXIF nor changed by a profile.

    Args:
        content: path of the file, or its bytes.
        check: function that is given the picture before anything is decoded.

    Raises:
        DeployError: ``check`` raised it.
        ImageError: the picture cannot be read or judged; the message is the bare reason.
    """
    return open_picture(content, check, decode_rgb)


def open_picture(content: Path | bytes, check: Check, decode: Callable[[Image.Image], Found]) -> Found:
    """What is made of a picture that Pillow opens.

    Args:
        content: path of the file, or its bytes.
        check: function that is given the picture before anything is decoded.
        decode: function that is given it then; what it raises becomes a reason.

    Raises:
        DeployError: ``check`` or ``decode`` raised it.
        ImageError: the picture cannot be read or judged; the message is the bare reason.
    """
    try:
        with open_file(content) as picture:
            _check_before_decoding(picture)
            check(picture)
            return decode(picture)
    except (DeployError, MemoryError):
        raise
    except ValueError as error:
        if "MAX_TEXT" not in str(error):
            raise ImageError(f"cannot be read: {first_line(error)}") from None
        # Generators write their prompts and workflows into PNGs; pixels do not depend on them.
        without = drop_texts(content if isinstance(content, bytes) else content.read_bytes())
        return open_picture(without, check, decode)
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except Image.DecompressionBombError:  # Pillow's own limit, which is the same where none is set here
        raise TooManyPixelsError(f"it is more than {describe_limit()}") from None
    except UnidentifiedImageError:  # its text names an address in memory where the bytes came from a shard
        raise UnknownFormatError("cannot be read: not a picture of a known format") from None
    except OSError as error:  # of the system: its text would repeat the path
        raise ImageError(f"cannot be read: {error.strerror or first_line(error)}") from None
    except Exception as error:  # decoders fail in many ways; each means that this file cannot be read
        raise ImageError(f"cannot be read: {first_line(error)}") from None


def decode_rgb(picture: Image.Image) -> Image.Image:
    """Decode a picture that is open, to RGB."""
    rgb = _to_rgb(picture)
    rgb.load()  # while the file is open
    return rgb


def open_file(content: Path | bytes) -> Image.Image:
    """A picture that is open and not decoded, of one of the formats that are read here.

    Args:
        content: path of the file, or its bytes.

    Raises:
        ImageError: the file is empty, no regular file, or HEIC without its library; the message is the bare reason.
        OSError: the file cannot be read, or is no picture of these formats; of damage, Pillow raises other errors, too.
    """
    try:
        return Image.open(_opened(content), formats=_known_formats())
    except UnidentifiedImageError:
        if not is_heif(content):
            raise
    if find_spec("pillow_heif") is None:
        raise ImageError("HEIC needs pillow-heif; run 'pip install lfm-deploy[heic]', or convert it")
    return Image.open(_opened(content), formats=_heif_formats())


@cache
def _known_formats() -> tuple[str, ...]:
    """Those of the formats that this Pillow can open; photographs of several frames (MPO) come by way of JPEG."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@cache
def _heif_formats() -> tuple[str, ...]:
    """Loaded where a picture asks for it: loading takes longer than the self-test of all other formats."""
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)
    return ("HEIF",)


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
    if picture.format == "HEIF" and picture.info.get("bit_depth", 8) > 8:
        raise ImageError(f"HEIC of {picture.info['bit_depth']} bits a channel; convert it to 8 bits first")


def is_regular(path: Path) -> bool:
    """Whether a path is a file of bytes: not a folder, a pipe or a device, and open to this user to look at."""
    with suppress(OSError, ValueError):
        return path.is_file()
    return False


def is_heif(content: Path | bytes) -> bool:
    """Whether a file says of itself that it is HEIC."""
    if isinstance(content, bytes):
        head = content[:_HEAD_BYTES]
    else:
        with content.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    return head[4:8] == b"ftyp" and head[8:] in _HEIF_BRANDS


def _to_rgb(picture: Image.Image) -> Image.Image:
    # Pillow's own convert copies where there is nothing to do.
    if picture.mode == "RGB":
        return picture
    if picture.mode == "P" and isinstance(picture.info.get("transparency"), bytes):
        # The way that Pillow recommends; the colours are the same, and it does not warn.
        return picture.convert("RGBA").convert("RGB")
    return picture.convert("RGB")
