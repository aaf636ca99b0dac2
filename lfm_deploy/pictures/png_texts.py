"""A PNG without its texts: they may be of any size, and no pixel depends on them."""

import struct

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_AROUND = 12  # bytes of a chunk beside its content: length, kind, check sum


def drop_texts(content: bytes) -> bytes:
    """The file without chunks of text; whatever is no PNG comes back as it is.

    Args:
        content: bytes of a PNG; damage behind the signature is kept for the decoder to find.
    """
    if not content.startswith(_SIGNATURE):
        return content
    kept, at = [_SIGNATURE], len(_SIGNATURE)
    while at + _AROUND <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        end = at + _AROUND + length
        if content[at + 4 : at + 8] not in _TEXTS:
            kept.append(content[at:end])
        at = end
    return b"".join([*kept, content[at:]])
