"""What is inside an archive: which members are pictures, how large they may be, and what damage looks like."""

import lzma
import struct
import tarfile
import zipfile
import zlib
from pathlib import PurePosixPath

from lfm_deploy.errors import ImageError
from lfm_deploy.pictures.decoding import Source
from lfm_deploy.pictures.left_out import LeftOut, kind_of_name
from lfm_deploy.pictures.opening import IMAGE_SUFFIXES
from lfm_deploy.pictures.pixel_limit import most_pixels

_BYTES_A_PIXEL, _HEADER_BYTES = 3, 1 << 20
# What the libraries raise for a damaged archive; UnicodeDecodeError and other ValueErrors come from damaged headers.
DAMAGE = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    ValueError,
    struct.error,
)


def failed_source(name: str, reason: str) -> Source:
    """A source that gives no picture, and says why."""

    def load() -> bytes:
        raise ImageError(reason)

    return Source(name, load)


def is_picture(name: str) -> bool:
    """Whether a name is one of a picture, and no part of it hidden."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") and part not in (".", "..") for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def is_wanted(name: str, counts: LeftOut) -> bool:
    """Whether a member is a picture to judge; others are counted."""
    if is_picture(name):
        return True
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") and part not in (".", "..") for part in path.parts)
    counts["hidden file" if hidden else kind_of_name(path.name)] += 1
    return False


def most_bytes() -> int:
    """The largest picture that is taken, in bytes: as many as the pixels that are taken have, and some for a header."""
    return _BYTES_A_PIXEL * most_pixels() + _HEADER_BYTES


def check_bytes(size: int) -> None:
    """Refuse a member that is too large for a picture.

    Raises:
        ImageError: the member is too large.
    """
    if size > most_bytes():
        raise ImageError(too_large(size))


def too_large(size: int) -> str:
    """Why a member of so many bytes is not read."""
    return f"{size} bytes are more than {most_bytes()}: not taken for a picture"
