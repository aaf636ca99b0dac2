"""Text as people's editors and shells save it: UTF-8, or UTF-16 where a byte order mark says so."""

import codecs


def decode_text(content: bytes) -> str:
    """The text of a file, without its byte order mark.

    Args:
        content: bytes of the file.

    Raises:
        UnicodeDecodeError: the bytes are no text in UTF-8, or not in the encoding that their mark promises.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")
