"""Pictures inside zip and tar files, in the order of the archive, read and never extracted."""

import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

from lfm_deploy.errors import ImageError
from lfm_deploy.pictures.decoding import Source
from lfm_deploy.pictures.left_out import LeftOut
from lfm_deploy.pictures.members import DAMAGE, check_bytes, failed_source, is_wanted
from lfm_deploy.pictures.tars import find_opener, walk_compressed_tar, walk_tar
from lfm_deploy.storage.places import RemotePath

SHARD_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")

_ENCRYPTED = 1  # the bit of a member's flags
_END_BYTES = 22  # of the record at the end of a zip, without its comment
_COUNTED_ELSEWHERE = 0xFFFF  # more members than its field takes


def is_shard(path: Path | RemotePath) -> bool:
    """Whether a name ends like a zip or tar file."""
    return path.name.lower().endswith(SHARD_SUFFIXES)


def walk_shard(path: Path, left_out: LeftOut | None = None, *, name: str | None = None) -> Iterator[Source]:
    """Pictures of a shard, named ``shard.zip/inner/name.png``; hidden members and other files are left out.

    Its first bytes say what it is, since names often don't. Names inside are names alone: nothing is written, so that
    ``../`` in them is harmless. A shard that is encrypted, damaged or cut short gives what stands before that, then one
    source whose error says so; one that holds nothing at all gives that source alone.

    Args:
        path: path of the file.
        left_out: counter of what is passed over.
        name: name of the shard in results; None is its path.
    """
    name = str(path) if name is None else name
    counts = LeftOut() if left_out is None else left_out
    before, found = counts.total(), False
    for source in _walk_members(path, name, counts):
        found = True
        yield source
    if not found and counts.total() == before:
        yield failed_source(name, "holds no file")


def _walk_members(path: Path, name: str, counts: LeftOut) -> Iterator[Source]:
    try:
        with path.open("rb") as file:
            head = file.read(8)
        if not head:
            raise EOFError("the file is empty")
        opener = find_opener(head)
        if head.startswith(b"PK"):
            yield from _walk_zip(path, name, counts)
        elif opener is not None:
            yield from walk_compressed_tar(path, name, opener, counts)
        elif name.lower().endswith(".zip"):
            raise zipfile.BadZipFile("not a zip file")
        else:
            yield from walk_tar(path, name, counts)
    except ImageError as error:
        yield failed_source(name, str(error))
    except FileNotFoundError:
        yield failed_source(name, "no such file")
    except DAMAGE as error:
        yield failed_source(name, f"damaged or cut short: {str(error) or type(error).__name__}")


def _walk_zip(path: Path, name: str, counts: LeftOut) -> Iterator[Source]:
    # Not closed by hand: members are read later, in other threads, and the last of them lets go of it.
    archive, lock = zipfile.ZipFile(path), threading.Lock()
    for member in archive.infolist():
        if not member.filename:  # zipfile itself stumbles over it
            counts["member without a name"] += 1
            continue
        if member.is_dir() or not is_wanted(member.filename, counts):
            continue
        if member.flag_bits & _ENCRYPTED:
            raise ImageError("encrypted; decrypt it first")
        yield Source(f"{name}/{member.filename}", _ZipMember(archive, member, lock))
    promised, there = _count_promised(archive, path), len(archive.infolist())
    if promised not in (_COUNTED_ELSEWHERE, there & _COUNTED_ELSEWHERE):
        yield failed_source(name, f"damaged: its end promises {promised} members, its directory has {there}")


def _count_promised(archive: zipfile.ZipFile, path: Path) -> int:
    """How many members the end of a zip names; ``zipfile`` passes over what a damaged entry of its directory hides."""
    end = path.stat().st_size - _END_BYTES - len(archive.comment)
    with path.open("rb") as file:
        file.seek(max(end, 0))
        record = file.read(_END_BYTES)
    return int.from_bytes(record[10:12], "little") if record.startswith(b"PK\5\6") else _COUNTED_ELSEWHERE


class _ZipMember:
    """Loads one member. ``ZipFile`` reads safely in several threads, but counts its open members without a lock."""

    __slots__ = ("_archive", "_lock", "_member")

    def __init__(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, lock: threading.Lock) -> None:
        self._archive, self._member, self._lock = archive, member, lock

    def __call__(self) -> bytes:
        check_bytes(self._member.file_size)
        try:
            with self._lock:
                opened = self._archive.open(self._member)
            try:
                return opened.read()
            finally:
                with self._lock:
                    opened.close()
        except DAMAGE as error:
            raise ImageError(f"cannot be read: {str(error) or type(error).__name__}") from None
