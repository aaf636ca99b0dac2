"""Bad shards: zip and tar files that are damaged, cut short, joined, misnamed, or whose headers say odd things."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from fuzzing.damage import damage
from fuzzing.rows import Wanted, judge_rows, near
from fuzzing.seeds import Seeds
from fuzzing.trial import Trial

_PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".tar": lambda content: content,
    ".tar.gz": lambda content: gzip.compress(content, mtime=0),
    ".tgz": lambda content: gzip.compress(content, mtime=0),
    ".tar.xz": lzma.compress,
    ".tar.bz2": bz2.compress,
}
_SIGN = b"\x89PNG\r\n\x1a\n"
_BLOCK = 512


def make_tar(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A tar, plain or compressed, with damage before or behind the compression."""
    members = [(f"in/{index}.png", tile) for index, tile in enumerate(seeds.tiles)]
    content = _tar(members, rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT]))
    suffix = rng.choice([".tar", ".tar", *sorted(_PACKERS)])
    choice = rng.random()
    if choice < 0.35:
        content, what = _spoil_header(rng, content)
        packed = _PACKERS[suffix](content)
    elif choice < 0.45:
        packed, what = _join(rng, members, suffix)
        content = b""
    elif choice < 0.5 or suffix == ".tar":
        content, what = damage(rng, content)
        packed = _PACKERS[suffix](content)
    else:
        packed, what = damage(rng, _PACKERS[suffix](content))
        content = b""
    return _try_shard(rng, seeds, folder, suffix, packed, what, plain=content)


def make_zip(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A zip with damage, or with odd entries."""
    buffer = io.BytesIO()
    method = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for index, tile in enumerate(seeds.tiles):
            archive.writestr(zipfile.ZipInfo(f"in/{index}.png"), tile, method)
    content = buffer.getvalue()
    if rng.random() < 0.6:
        content, what = damage(rng, content)
    else:
        content, what = _spoil_directory(rng, content)
    return _try_shard(rng, seeds, folder, ".zip", content, what, plain=b"")


def _try_shard(
    rng: Random, seeds: Seeds, folder: Path, suffix: str, packed: bytes, what: str, *, plain: bytes
) -> Trial:
    """Judge a shard; ``plain`` are the bytes of an uncompressed tar, in which nothing tells damage to a member."""
    name = f"s{suffix}"
    if rng.random() < 0.05:
        name = f"s{rng.choice(['.zip', *sorted(_PACKERS)])}"
        what += f", named {name}"
    path = folder / name
    path.write_bytes(packed)
    right = [seeds.known_logit(tile) for tile in seeds.tiles]
    starts = [start for start in range(len(plain)) if plain.startswith(_SIGN, start)] if plain else []
    found = [logit for start in starts if (logit := seeds.logit(plain[start:])) is not None]
    wanted = [Wanted(f"{path}/in/{index}.png", (logit, *found)) for index, logit in enumerate(right)]
    beside = folder / "a.png"
    beside.write_bytes(seeds.tiles[0])
    whole = Wanted(f"{beside}", (right[0],), whole=True)
    return Trial(
        arguments=["predict", "--json", "--workdir", f"{seeds.deploy}", f"{path}", f"{beside}"],
        what=f"{suffix}: {what}",
        names=(name,),
        judge=judge_rows(
            [*wanted, whole],
            seeds.threshold,
            others=lambda logit: any(near(logit, other) for other in (*right, *found)),
        ),
        codes=(0, 1),
        refusable=False,
    )


def _tar(members: list[tuple[str, bytes]], form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _join(rng: Random, members: list[tuple[str, bytes]], suffix: str) -> tuple[bytes, str]:
    first, second = (_tar(part, tarfile.GNU_FORMAT) for part in (members[:2], members[2:]))
    if rng.random() < 0.5:
        return _PACKERS[suffix](first + second), "two tars, one behind the other"
    return _PACKERS[suffix](first) + _PACKERS[suffix](second), "two shards, one behind the other"


def _spoil_header(rng: Random, content: bytes) -> tuple[bytes, str]:
    """One header of a tar says something odd, mostly with a check sum that holds."""
    starts = [start for start in range(0, len(content), _BLOCK) if content[start + 257 : start + 262] == b"ustar"]
    start = rng.choice(starts)
    header = bytearray(content[start : start + _BLOCK])
    field, value = rng.choice(_HEADER_VALUES)
    first, last = field
    header[first:last] = value[: last - first].ljust(last - first, b"\0")
    # Headers of these types announce the next one: with a right check sum they say so, and are believed.
    holds = rng.random() < 0.8 and not (field == _TYPE and value in b"gxLK")
    if holds:
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    what = f"header at {start}: {value[:12]!r} at {first}{'' if holds else ', broken check sum'}"
    return content[:start] + bytes(header) + content[start + _BLOCK :], what


_NAME, _SIZE, _TYPE, _LINK, _SUM = (0, 100), (124, 136), (156, 157), (157, 257), (148, 156)
_HEADER_VALUES = [
    *(
        (_NAME, name)
        for name in (b"", b"../../x.png", b"/x.png", b"in/\xff\xfe.png", b"in/.h.png", b"in/t.txt", b"a" * 100)
    ),
    *(
        (_SIZE, size)
        for size in (b"00000000000", b"77777777777", b"xxxxxxxxxxx", b"-0000000001", b"\x80" + b"\0" * 10 + b"\xff")
    ),
    *((_SIZE, size) for size in (b"\xff" * 12, b"00000000100", b"00000020000", b" 1 2 3")),
    *((_TYPE, kind) for kind in (b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"g", b"x", b"L", b"K", b"S", b"D", b"Z")),
    (_LINK, b"in/0.png"),
    (_LINK, b"in/none.png"),
    (_SUM, b"\0" * 8),
    ((257, 265), b"\0" * 8),
    ((257, 265), b"ustar  \0"),
]


def _spoil_directory(rng: Random, content: bytes) -> tuple[bytes, str]:
    """One entry of a zip's directory, or its end, says something odd."""
    start = rng.choice([at for at in range(len(content)) if content.startswith((b"PK\x01\x02", b"PK\x03\x04"), at)])
    local = content.startswith(b"PK\x03\x04", start)
    if rng.random() < 0.2:
        start, local = content.rfind(b"PK\x05\x06"), False
        at, size = rng.choice([(8, 2), (10, 2), (12, 4), (16, 4), (20, 2), (4, 2)])
    elif local:
        at, size = rng.choice([(6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)])
    else:
        at, size = rng.choice([(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (42, 4)])
    before = int.from_bytes(content[start + at : start + at + size], "little")
    values = {0, 1, before + 1, before ^ 0x08, before ^ 0x800, 99, 2 ** (8 * size) - 1, 2 ** (8 * size - 1)} - {before}
    value = rng.choice(sorted(value % 2 ** (8 * size) for value in values))
    packed = struct.pack("<I", value)[:size]
    what = f"{'header' if local else 'directory'} at {start}: {at} is {value} instead of {before}"
    return content[: start + at] + packed + content[start + at + size :], what
