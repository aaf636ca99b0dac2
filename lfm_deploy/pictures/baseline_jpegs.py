"""Whether a JPEG file is baseline and whole in its structure: then decoders that never warn can be trusted with it.

A damaged byte that became a marker, or lost one, shows without decoding. What Pillow would pad or refuse is found so,
whatever the decoder makes of it.
"""

import struct
from dataclasses import dataclass

import numpy as np

_START, _END = b"\xff\xd8", b"\xff\xd9"
_BASELINE, _HUFFMAN, _SCAN, _INTERVAL, _QUANTISATION, _COMMENT = 0xC0, 0xC4, 0xDA, 0xDD, 0xDB, 0xFE
_APPLICATION = range(0xE0, 0xF0)
_PASSED_OVER = frozenset([_HUFFMAN, _QUANTISATION, _COMMENT, *_APPLICATION])
_FIRST_RESTART = 0xD0
_CHANNELS = (1, 3)
_ADOBE, _ADOBE_NAME, _TRANSFORM, _LUMA_AND_CHROMA = 0xEE, b"Adobe", 11, 1
_RED_GREEN_BLUE = b"RGB"


@dataclass(slots=True)
class _Header:
    """What stands before the scan.

    Attributes:
        units: number of coded units (MCUs) in the picture; 0 before the frame was read.
        interval: number of them between restart markers; 0 for no markers.
        channels: number of channels.
        size: width and height of the picture in pixels.
        plain: whether its channels may be red, green and blue, which not every decoder looks for.
    """

    units: int = 0
    interval: int = 0
    channels: int = 0
    size: tuple[int, int] = (0, 0)
    plain: bool = False


def find_whole_baseline(content: bytes) -> tuple[int, int] | None:
    """Width and height of a baseline JPEG, grey or with chroma, in one scan, with all markers in their places.

    Args:
        content: bytes of the file; what stands behind its end makes it another file, too.

    Returns:
        None where the file is anything else.
    """
    if not (content.startswith(_START) and content.endswith(_END)):
        return None
    header = _Header()
    try:
        return header.size if _is_whole(content, header) else None
    except (struct.error, IndexError, ZeroDivisionError):  # the header runs over the end, or has no sampling
        return None


def _is_whole(content: bytes, header: _Header) -> bool:
    place = len(_START)
    while True:
        mark, kind, length = struct.unpack_from(">BBH", content, place)
        body = place + 4
        place += 2 + length
        if mark != 0xFF or length < 2 or place > len(content):
            return False
        if kind == _BASELINE:
            if header.units or not _read_frame(content, body, length, header):
                return False
        elif kind == _INTERVAL:
            (header.interval,) = struct.unpack_from(">H", content, body)
        elif kind == _ADOBE and content.startswith(_ADOBE_NAME, body):
            header.plain |= content[body + _TRANSFORM] != _LUMA_AND_CHROMA
        elif kind == _SCAN:
            if header.plain and header.channels > 1:
                return False
            return bool(header.units) and content[body] == header.channels and _holds_scan(content, place, header)
        elif kind not in _PASSED_OVER:
            return False


def _read_frame(content: bytes, body: int, length: int, header: _Header) -> bool:
    precision, height, width, channels = struct.unpack_from(">BHHB", content, body)
    if precision != 8 or channels not in _CHANNELS or length != 8 + 3 * channels or not (width and height):
        return False
    factors = [divmod(content[body + 7 + 3 * channel], 16) for channel in range(channels)]
    # A single channel is coded block by block, whatever its sampling says.
    across, down = (1, 1) if channels == 1 else (max(x for x, _ in factors), max(y for _, y in factors))
    header.units = -(-width // (8 * across)) * -(-height // (8 * down))
    header.channels, header.size = channels, (width, height)
    header.plain |= bytes(content[body + 6 + 3 * channel] for channel in range(channels)) == _RED_GREEN_BLUE
    return all(x and y for x, y in factors)


def _holds_scan(content: bytes, place: int, header: _Header) -> bool:
    """Whether there are the restart markers of the header between scan and end, in their order, and no others."""
    scan = np.frombuffer(content, np.uint8, len(content) - place - len(_END), place)
    behind = np.flatnonzero(scan == 0xFF) + 1
    if not len(scan) or (len(behind) and behind[-1] == len(scan)):
        return False
    kinds = scan[behind]
    marks = kinds[kinds != 0]  # a zero says that the byte before it was one of the picture
    expected = (header.units - 1) // header.interval if header.interval else 0
    return len(marks) == expected and bool((marks == _FIRST_RESTART + np.arange(expected) % 8).all())
