"""Pictures inside zip and tar files, in the order of the archive, read and never extracted."""

import gzip
import os
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath

from lfm_deploy.errors import ImageError
from lfm_deploy.pictures.decoding import IMAGE_SUFFIXES, Source

SHARD_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")

# The largest picture that is taken, in bytes: as many as the pixels that are taken have, and some for a header.
_MOST_BYTES = 512 << 20
_CHUNK_BYTES = 1 << 20
_ENCRYPTED = 1  # the bit of a member's flags
_DAMAGE = (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile, NotImplementedError, RuntimeError)


def is_shard(path: Path) -> bool:
    """Whether a name ends like a zip or tar file."""
    return path.name.lower().endswith(SHARD_SUFFIXES)


def walk_shard(path: Path) -> Iterator[Source]:
    """Pictures of a shard, named ``shard.zip/inner/name.png``; hidden members and other files are left out.

    Names inside are names alone: nothing is written, so that ``../`` in them is harmless. A shard that is encrypted,
    damaged or cut short gives what stands before that, then one source whose error says so.
    """
    try:
        if path.name.lower().endswith(".zip"):
            yield from _walk_zip(path)
        elif path.name.lower().endswith(".tar"):
            yield from _walk_tar(path)
        else:
            yield from _walk_compressed_tar(path)
    except ImageError as error:
        yield failed_source(str(path), str(error))
    except FileNotFoundError:
        yield failed_source(str(path), "no such file")
    except _DAMAGE as error:
        yield failed_source(str(path), f"damaged or cut short: {str(error) or type(error).__name__}")


def failed_source(name: str, reason: str) -> Source:
    """A source that gives no picture, and says why."""

    def load() -> bytes:
        raise ImageError(reason)

    return Source(name, load)


def is_picture(name: str) -> bool:
    """Whether a name is one of a picture, and no part of it hidden."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") and part not in (".", "..") for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def _walk_zip(path: Path) -> Iterator[Source]:
    # Not closed by hand: members are read later, in other threads, and the last of them lets go of it.
    archive, lock = zipfile.ZipFile(path), threading.Lock()
    for member in archive.infolist():
        if member.is_dir() or not is_picture(member.filename):
            continue
        if member.flag_bits & _ENCRYPTED:
            raise ImageError("encrypted; decrypt it first")
        yield Source(f"{path}/{member.filename}", _ZipMember(archive, member, lock))


class _ZipMember:
    """Loads one member. ``ZipFile`` reads safely in several threads, but counts its open members without a lock."""

    __slots__ = ("_archive", "_lock", "_member")

    def __init__(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, lock: threading.Lock) -> None:
        self._archive, self._member, self._lock = archive, member, lock

    def __call__(self) -> bytes:
        _check_bytes(self._member.file_size)
        try:
            with self._lock:
                opened = self._archive.open(self._member)
            try:
                return opened.read()
            finally:
                with self._lock:
                    opened.close()
        except _DAMAGE as error:
            raise ImageError(f"cannot be read: {str(error) or type(error).__name__}") from None


def _walk_tar(path: Path) -> Iterator[Source]:
    """Headers are read here, the pictures where they lie, in the threads that decode them."""
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
        data = _TarData(path)
        for member in _members(archive):
            name = f"{path}/{member.name}"
            if not member.isreg() or member.sparse is not None:
                yield failed_source(name, "a link or a sparse file inside a shard, which is not read")
            else:
                yield Source(name, _TarMember(data, member.offset_data, member.size))
        # tarfile takes a file that ends between two members for a whole one.
        file.seek(archive.offset)
        if not file.read(1):
            raise EOFError("it has no end mark")


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
        _check_bytes(self._size)
        return self._data.read(self._offset, self._size)


def _walk_compressed_tar(path: Path) -> Iterator[Source]:
    """A stream, which is read once and in order: each member when its turn comes."""
    # Not tarfile's own decompression, which takes the end of a cut file for the end of the archive.
    with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in _members(archive):
            name = f"{path}/{member.name}"
            if not member.isreg():
                yield failed_source(name, "a link inside a shard, which is not read")
            elif member.size > _MOST_BYTES:
                yield failed_source(name, _too_large(member.size))
            else:
                opened = archive.extractfile(member)
                content = b"" if opened is None else opened.read()
                yield Source(name, partial(bytes, content))
        while stream.read(_CHUNK_BYTES):
            pass  # the check sum stands at the very end


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        # tarfile remembers every header, which would grow with the archive; typeshed does not know the list.
        archive.members.clear()  # type: ignore[attr-defined]
        if not member.isdir() and is_picture(member.name):
            yield member


def _check_bytes(size: int) -> None:
    if size > _MOST_BYTES:
        raise ImageError(_too_large(size))


def _too_large(size: int) -> str:
    return f"{size} bytes are more than {_MOST_BYTES}: not taken for a picture"
