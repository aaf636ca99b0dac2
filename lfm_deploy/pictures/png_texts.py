"""The texts of a PNG: without them, since they may be of any size and no pixel depends on them, or alone."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_KEPT_BYTES = 1 << 16
_AROUND = 12  # bytes of a chunk beside its content: length, kind, check sum


def drop_texts(content: bytes) -> bytes:
    """The file without chunks of text; whatever is no PNG comes back as it is.

    Args:
        content: bytes of a PNG; damage behind the signature is kept for the decoder to find.
    """
    if not content.startswith(_SIGNATURE):
        return content
    kept, end = [_SIGNATURE], len(_SIGNATURE)
    for kind, start, end in _chunks(content):
        if kind not in _TEXTS:
            kept.append(content[start:end])
    return b"".join([*kept, content[end:]])


def read_texts(content: bytes) -> dict[str, bytes]:
    """The texts of a PNG by keyword, each cut to some kilobytes; none for whatever is no PNG.

    Args:
        content: bytes of the file.
    """
    texts: dict[str, bytes] = {}
    for kind, start, end in _chunks(content) if content.startswith(_SIGNATURE) else ():
        if kind in _TEXTS:
            key, _, rest = content[start + 8 : end - 4].partition(b"\0")
            with suppress(zlib.error, ValueError, IndexError):
                texts[key.decode("latin-1")] = _read_text(kind, rest)
    return texts


def _read_text(kind: bytes, rest: bytes) -> bytes:
    """The text behind the keyword; what is compressed is unpacked no further than it is kept."""
    if kind == b"tEXt":
        return rest[:_KEPT_BYTES]
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[2]
    else:
        rest = rest[1:]
    return zlib.decompressobj().decompress(rest, _KEPT_BYTES) if packed else rest[:_KEPT_BYTES]


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each whole chunk."""
    at = len(_SIGNATURE)
    while at + _AROUND <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        end = at + _AROUND + length
        yield content[at + 4 : at + 8], at, end
        at = end
