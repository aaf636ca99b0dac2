"""Damage to bytes, as disks, cables and half copies do it."""

from collections.abc import Callable
from random import Random

_MAGICS = (
    b"PK\x03\x04",
    b"\x1f\x8b\x08\x00",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b'{"',
    b"\x80\x02",
    b"%PDF-1.4",
    b"\xfd7zXZ\x00",
    b"BZh9",
    b"%!PS",
    b"SQLite format 3\0",
    b"\x7fELF",
    b"RIFF",
    b"\0" * 8,
)
_LONGEST = 4096


def damage(rng: Random, content: bytes) -> tuple[bytes, str]:
    """Other bytes, and what was done; always different ones.

    Args:
        rng: source of chance.
        content: bytes of a whole file.
    """
    while True:
        tool = rng.choice(_TOOLS)
        damaged = tool(rng, content)
        if damaged != content:
            return damaged, tool.__name__.removeprefix("_").replace("_", " ")


def flip_bit(rng: Random, content: bytes) -> bytes:
    """One bit is another."""
    changed = bytearray(content)
    changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _flip_bits(rng: Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randint(2, 40)):
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut_short(rng: Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def _cut_a_little(rng: Random, content: bytes) -> bytes:
    return content[: -rng.randint(1, min(64, len(content)))]


def _zero(rng: Random, content: bytes) -> bytes:
    start, end = _span(rng, content)
    return content[:start] + bytes(end - start) + content[end:]


def _overwrite(rng: Random, content: bytes) -> bytes:
    start, end = _span(rng, content)
    return content[:start] + rng.randbytes(end - start) + content[end:]


def _drop_block(rng: Random, content: bytes) -> bytes:
    start, end = _span(rng, content)
    return content[:start] + content[end:]


def _repeat_block(rng: Random, content: bytes) -> bytes:
    start, end = _span(rng, content)
    return content[:end] + content[start:]


def _swap_blocks(rng: Random, content: bytes) -> bytes:
    first, second, third = sorted(rng.randrange(len(content) + 1) for _ in range(3))
    return content[:first] + content[second:third] + content[first:second] + content[third:]


def _insert(rng: Random, content: bytes) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + rng.randbytes(rng.randint(1, 64)) + content[start:]


def _append(rng: Random, content: bytes) -> bytes:
    return content + rng.choice([rng.randbytes(rng.randint(1, 600)), bytes(512), content])


def _wrong_magic(rng: Random, content: bytes) -> bytes:
    magic = rng.choice(_MAGICS)
    return magic + content[len(magic) :]


def _nothing(rng: Random, content: bytes) -> bytes:
    return rng.choice([b"", bytes(len(content)), b"\n", rng.randbytes(len(content))])


def _newlines(_: Random, content: bytes) -> bytes:
    """As a transfer in text mode does."""
    return content.replace(b"\n", b"\r\n")


def _span(rng: Random, content: bytes) -> tuple[int, int]:
    start = rng.randrange(len(content))
    return start, min(len(content), start + rng.randint(1, rng.choice([1, 4, 64, _LONGEST])))


_TOOLS: tuple[Callable[[Random, bytes], bytes], ...] = (
    flip_bit,
    flip_bit,
    flip_bit,
    _flip_bits,
    _cut_short,
    _cut_short,
    _cut_a_little,
    _zero,
    _overwrite,
    _drop_block,
    _repeat_block,
    _swap_blocks,
    _insert,
    _append,
    _wrong_magic,
    _nothing,
    _newlines,
)
