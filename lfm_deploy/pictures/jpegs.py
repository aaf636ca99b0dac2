"""JPEG files by another decoder than Pillow's own: which of them, and what is left to Pillow with its reasons.

Pillow opens each file and reads its header, so that what it refuses stays refused in its words. Whatever the other
decoder cannot decode whole and without a warning goes back to Pillow, which then decodes it or says why not.
"""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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

    @property
    def before_resize(self) -> bool:
        """Whether it is to decode pictures that Pillow resizes afterwards, into whose memory they are copied then."""
        ...

    def decode(self, content: bytes, slot: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        """Pixels of one file, neither turned nor resized; None where it cannot decode it without a doubt.

        Args:
            content: bytes of a JPEG file with one or three channels.
            slot: uint8 ``(H, W, 3)``, of the picture's size, to write the pixels into; None for a new array.

        Returns:
            uint8 ``(H, W, 3)``; the slot where there is one.
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


def decode_opened(
    picture: Image.Image, decoder: JpegDecoder, slot: NDArray[np.uint8] | None, *, resized: bool
) -> NDArray[np.uint8] | None:
    """Pixels of a picture that Pillow has opened and not decoded; None leaves it to Pillow.

    Args:
        picture: picture of any format.
        decoder: decoder to try where it is a JPEG file, grey or RGB.
        slot: uint8 ``(H, W, 3)`` of the picture's size to write the pixels into; None for a new array.
        resized: whether Pillow resizes it afterwards.

    Returns:
        uint8 ``(H, W, 3)``; the slot where there is one.
    """
    if picture.format not in ("JPEG", "MPO") or picture.mode not in ("RGB", "L"):
        return None
    file = getattr(picture, "fp", None)
    if file is None or (resized and not decoder.before_resize):
        return None
    file.seek(0)  # Pillow looks for its place by itself
    pixels = decoder.decode(file.read(), slot)
    return pixels if pixels is not None and pixels.shape == (picture.height, picture.width, 3) else None
