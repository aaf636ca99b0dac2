"""JPEG files by another decoder than Pillow's own: which of them, and what is left to Pillow with its reasons.

Pillow reads the header of each file, so that what it refuses stays refused in its words. Whatever the other decoder
cannot decode whole and without a warning goes back to Pillow, which then decodes it or says why not.
"""

import io
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfm_deploy.pictures.opening import check_size

_START = b"\xff\xd8\xff"


class JpegDecoder(Protocol):
    """Decodes JPEG files; several threads may use it at once."""

    @property
    def name(self) -> str:
        """Name of the decoder on the command line."""
        ...

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of the libraries that its pixels come from, and the way in which they are used, by name."""
        ...

    def decode(self, content: bytes, slot: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        """Pixels of one file, neither turned nor resized; None where it cannot decode it without a doubt.

        Args:
            content: bytes of a JPEG file with one or three channels.
            slot: uint8 ``(H, W, 3)``, of the picture's size, to write the pixels into; None for a new array.

        Returns:
            uint8 ``(H, W, 3)``, or ``(H, W, 4)`` with a last channel that means nothing where that saves a copy; the
            slot where there is one.
        """
        ...


def load_jpeg(content: Path | bytes) -> bytes | None:
    """The bytes of a JPEG file; None for all other files, and for what cannot be read."""
    if isinstance(content, bytes):
        return content if content.startswith(_START) else None
    try:
        if not stat.S_ISREG(content.stat().st_mode):
            return None  # opening a pipe would wait for ever
        with content.open("rb") as file:
            head = file.read(len(_START))
            return head + file.read() if head == _START else None
    except (OSError, ValueError):  # Pillow says why
        return None


def decode_jpeg(
    content: bytes,
    decoder: JpegDecoder,
    slot: NDArray[np.uint8] | None,
    check: Callable[[int, int], None] = lambda *_: None,
) -> NDArray[np.uint8] | None:
    """Pixels of a JPEG file of its own size; None leaves it to Pillow.

    Args:
        content: bytes of the file.
        decoder: decoder to try.
        slot: uint8 ``(H, W, 3)`` to decode into where the picture has this size; otherwise it stays as it is.
        check: function that is given width and height before anything is decoded; it may raise an ``ImageError``.

    Returns:
        uint8 ``(H, W, 3)``, or ``(H, W, 4)``, see ``JpegDecoder``; the slot where the size fits.

    Raises:
        ImageError: the picture cannot be judged; the message is the bare reason.
    """
    found = read_header(content)
    if found is None:
        return None
    width, height = found
    check_size(width, height)
    check(width, height)
    fits = slot is not None and slot.shape == (height, width, 3)
    pixels = decoder.decode(content, slot if fits else None)
    return pixels if pixels is not None and pixels.shape[:2] == (height, width) else None


def read_header(content: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG file that Pillow would read as grey or RGB; None for all others."""
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
            return picture.size if picture.mode in ("RGB", "L") else None
    except Exception:  # whatever it is, Pillow says it again when the picture is its turn
        return None


def as_picture(pixels: NDArray[np.uint8]) -> Image.Image:
    """Pixels uint8 ``(H, W, 3)`` or ``(H, W, 4)`` as a picture; those of four bytes are not copied."""
    height, width, channels = pixels.shape
    if channels == 3:
        return Image.fromarray(pixels)
    return Image.frombuffer("RGBX", (width, height), pixels, "raw", "RGBX", 0, 1)
