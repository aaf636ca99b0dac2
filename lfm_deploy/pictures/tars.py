"""Pictures inside tar files, plain and compressed, with everything that ``tarfile`` takes for an end told apart."""

import bz2
import gzip
import lzma
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from tarfile import HeaderError, ReadError
from typing import BinaryIO, cast

from lfm_deploy.errors import ImageError
from lfm_deploy.pictures.decoding import Source
from lfm_deploy.pictures.left_out import LeftOut
from lfm_deploy.pictures.members import DAMAGE, check_bytes, failed_source, is_wanted, most_bytes, too_large

_CHUNK_BYTES = 1 << 20
_BLOCK = 512
_BROKEN_LINK = "a link inside a shard to what is not in it"
Opener = Callable[[Path], BinaryIO]


def find_opener(head: bytes) -> Opener | None:
    """What decompresses a file that begins with these bytes; None where it is not compressed."""
    openers = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\0": lzma.open, b"BZh": bz2.open}
    found = next((opener for magic, opener in openers.items() if head.startswith(magic)), None)
    return cast(Opener | None, found)


def walk_tar(path: Path, shard: str, counts: LeftOut) -> Iterator[Source]:
    """Headers are read here, the pictures where they lie, in the threads that decode them.

    Args:
        path: path of the file.
        shard: name of it in results.
        counts: counter of what is passed over.
    """
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:", tarinfo=_CheckedHeader) as archive:
        data = _TarData(path)
        links: dict[str, _TarMember] | None = None
        for member in _members(archive, counts):
            name = f"{shard}/{member.name}"
            if member.islnk():
                links = _find_members(path, data) if links is None else links
                target = links.get(member.linkname)
                yield failed_source(name, _BROKEN_LINK) if target is None else Source(name, target)
            elif not member.isreg() or member.sparse is not None:
                yield failed_source(name, "a link or a sparse file inside a shard, which is not read")
            else:
                yield Source(name, _TarMember(data, member.offset_data, member.size))
        file.seek(archive.offset)
        yield from _look_behind(shard, file, archive.offset)


def _find_members(path: Path, data: "_TarData") -> dict[str, "_TarMember"]:
    """Every plain file of a tar by name, for its hard links; only where there are any, as it grows with the archive."""
    found = {}
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:", tarinfo=_CheckedHeader) as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]
            if member.isreg() and member.sparse is None:
                found[member.name] = _TarMember(data, member.offset_data, member.size)
    return found


class _CheckedHeader(tarfile.TarInfo):
    """A header of a tar; ``tarfile`` takes a damaged one, and a missing end mark, for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> "_CheckedHeader":  # its name in the library
        start = tarfile.offset
        try:
            header = super().fromtarfile(tarfile)
        except HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":  # the end mark
                raise
            what = {"EmptyHeaderError": "it has no end mark", "TruncatedHeaderError": "it ends inside a header"}
            reason = what.get(type(error).__name__, f"a damaged header at byte {tarfile.offset}")
            raise ReadError(reason) from None
        if header.size < 0:  # which would lead backwards
            raise ReadError(f"a damaged header at byte {start}: a member of {header.size} bytes")
        return header


def _look_behind(shard: str, file: BinaryIO, offset: int) -> Iterator[Source]:
    """A source that says so where anything but zeros stands behind the end mark, as after ``cat a.tar b.tar``."""
    while chunk := file.read(_CHUNK_BYTES):
        if rest := chunk.lstrip(b"\0"):
            at = offset + (len(chunk) - len(rest)) // _BLOCK * _BLOCK
            yield failed_source(
                shard, f"more stands behind its end mark, at byte {at}, which is not read; split joined archives"
            )
            return
        offset += len(chunk)


class _TarData:
    """An open tar file; closed with the last of its members."""

    __slots__ = ("_handle",)

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDONLY)

    def read(self, offset: int, size: int) -> bytes:
        parts = []
        while size:
            part = os.pread(self._handle, size, offset)
            if not part:
                raise ImageError("cannot be read: the shard ends inside it")
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b"".join(parts)

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):
            os.close(self._handle)


class _TarMember:
    """Loads one member from its place in the file."""

    __slots__ = ("_data", "_offset", "_size")

    def __init__(self, data: _TarData, offset: int, size: int) -> None:
        self._data, self._offset, self._size = data, offset, size

    def __call__(self) -> bytes:
        check_bytes(self._size)
        try:
            return self._data.read(self._offset, self._size)
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror}") from None


def walk_compressed_tar(path: Path, shard: str, opener: Opener, counts: LeftOut) -> Iterator[Source]:
    """A stream, which is read once and in order: each member when its turn comes.

    Args:
        path: path of the file.
        shard: name of it in results.
        opener: function that opens the file and decompresses it.
        counts: counter of what is passed over.
    """
    # Not tarfile's own decompression, which takes the end of a cut file for the end of the archive.
    with opener(path) as stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=_CheckedHeader) as archive:
        for member in _members(archive, counts):
            name = f"{shard}/{member.name}"
            if member.islnk():
                yield Source(name, partial(_read_from_stream, path, opener, member.linkname))
            elif not member.isreg():
                yield failed_source(name, "a link inside a shard, which is not read")
            elif member.size > most_bytes():
                yield failed_source(name, too_large(member.size))
            else:
                opened = archive.extractfile(member)
                content = b"" if opened is None else opened.read()
                yield Source(name, partial(bytes, content))
        # What tarfile has read ahead, then the rest; the check sum stands at the very end.
        yield from _look_behind(shard, cast(BinaryIO, archive.fileobj), archive.offset + _BLOCK)
        while stream.read(_CHUNK_BYTES):
            pass


def _read_from_stream(path: Path, opener: Opener, wanted: str) -> bytes:
    """The content of a member that a hard link names: the stream once more, up to there."""
    try:
        with opener(path) as stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=_CheckedHeader) as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]
                if member.isreg() and member.name == wanted:
                    check_bytes(member.size)
                    opened = archive.extractfile(member)
                    return b"" if opened is None else opened.read()
    except DAMAGE as error:
        raise ImageError(f"cannot be read: {str(error) or type(error).__name__}") from None
    raise ImageError(_BROKEN_LINK)


def _members(archive: tarfile.TarFile, counts: LeftOut) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        # tarfile remembers every header, which would grow with the archive; typeshed does not know the list.
        archive.members.clear()  # type: ignore[attr-defined]
        if not member.isdir() and is_wanted(member.name, counts):
            yield member
