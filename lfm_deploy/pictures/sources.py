"""Where pictures come from: files, folders, patterns, lists and shards, walked lazily and in a fixed order."""

import codecs
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from lfm_deploy.errors import InputError
from lfm_deploy.pictures.decoding import Source
from lfm_deploy.pictures.folders import is_file, is_folder, walk_folder
from lfm_deploy.pictures.left_out import LeftOut
from lfm_deploy.pictures.members import failed_source
from lfm_deploy.pictures.opening import IMAGE_SUFFIXES
from lfm_deploy.pictures.remote_sources import (
    is_remote_folder,
    is_remote_pattern,
    match_remote,
    walk_remote,
    walk_remote_pictures,
)
from lfm_deploy.pictures.shards import SHARD_SUFFIXES, is_shard, walk_shard
from lfm_deploy.storage.places import RemotePath, is_remote

STANDARD_INPUT = "-"
_CHUNK_BYTES = 1 << 16


def find_sources(paths: Sequence[str], lists: Sequence[str] = (), left_out: LeftOut | None = None) -> Iterator[Source]:
    """Pictures in the order in which they were named; only the names of one folder or pattern are held at a time.

    Args:
        paths: names of what to read. Each is a file; a folder, whose pictures and those below come sorted, without
            hidden ones and other files; a shard (.zip, .tar, .tar.gz, .tgz), in its own order; a quoted pattern such as
            ``'*.png'`` or ``'**/*.jpg'``, for pictures and shards, sorted; or ``@list.txt`` or ``-``, a list. A name
            that exists is never taken for a pattern or a list. Each may be a URL of a store, as in ``s3://bucket/a.tar``.
        lists: files with one path a line, for files, folders and shards; ``-`` is standard input.
        left_out: counter of what is passed over in folders and shards, complete when the walk has ended.

    Raises:
        InputError: nothing is there of all that was named, or a list cannot be read.
        StoreError: a store refuses, or is out of reach.
        UnavailableError: the library or the credentials of a store are missing.
    """
    _check_any(paths, lists)
    return _walk_all(paths, lists, LeftOut() if left_out is None else left_out)


def find_names(paths: Sequence[str], lists: Sequence[str] = ()) -> Iterator[str | Source]:
    """Names of files, folders and shards in the order of ``find_sources``, none of them opened or looked at yet.

    Args:
        paths: names of what to read, as ``find_sources`` takes them.
        lists: names of lists, as ``find_sources`` takes them.

    Returns:
        Names for ``walk_path``, and for a pattern that matches nothing a source that says so.

    Raises:
        InputError: nothing is there of all that was named, or a list cannot be read.
    """
    _check_any(paths, lists)
    return _walk_names(paths, lists)


def walk_path(name: str, left_out: LeftOut) -> Iterator[Source]:
    """Pictures of a file, a folder or a shard.

    Args:
        name: path of it.
        left_out: counter of what is passed over.
    """
    path = Path(name)
    if is_remote(name):
        yield from walk_remote(RemotePath(name), left_out)
    elif is_folder(path):
        yield from walk_pictures(name, left_out)
    elif is_shard(path):
        yield from walk_shard(path, left_out)
    else:
        yield file_source(name)


def names_folder(name: str) -> bool:
    """Whether a name is one of a folder, on this machine or in a store."""
    return is_remote_folder(RemotePath(name)) if is_remote(name) else is_folder(name)


def walk_pictures(name: str, left_out: LeftOut) -> Iterator[Source]:
    """Pictures of a folder and below, and what cannot be read there as sources that say why.

    Args:
        name: path or URL of the folder.
        left_out: counter of what is passed over.
    """
    if is_remote(name):
        yield from walk_remote_pictures(RemotePath(name), left_out)
        return
    folder = Path(name)
    for found, problem in walk_folder(folder, left_out):
        yield file_source(found) if problem is None else failed_source(str(found), problem)


def file_source(path: Path | str) -> Source:
    """A picture in a file of its own."""
    return Source(str(path), lambda: Path(path))


def describe_nothing(paths: Sequence[str]) -> str:
    """Why nothing was found, for an error."""
    suffixes = " ".join(sorted(IMAGE_SUFFIXES))
    return (
        f"nothing to read: no picture in {', '.join(paths[:3]) or 'the list'}; pictures end in {suffixes}; "
        f"shards ({' '.join(SHARD_SUFFIXES)}) inside a folder are read where they are named, as in 'FOLDER/*.tar'"
    )


def _check_any(paths: Sequence[str], lists: Sequence[str]) -> None:
    for name in [*lists, *(path.removeprefix("@") for path in paths if _is_list(path))]:
        if name != STANDARD_INPUT and not (RemotePath(name).exists() if is_remote(name) else is_file(name)):
            raise InputError(f"{name}: no such list; it holds one path a line")
    if lists or not paths:
        return
    if not any(_is_list(path) or _is_there(path) for path in paths):
        raise InputError(f"{paths[0]}: no such file or folder, and no pattern that matches any")


def _is_there(path: str) -> bool:
    if is_remote(path):
        return next(match_remote(path), None) is not None if is_remote_pattern(path) else RemotePath(path).exists()
    return os.path.lexists(path) or _matches(path)


def _is_list(path: str) -> bool:
    return path == STANDARD_INPUT or (path.startswith("@") and not os.path.lexists(path))


def _matches(path: str) -> bool:
    return glob.has_magic(path) and next(_expand(path), None) is not None


def _expand(pattern: str) -> Iterator[str]:
    """Paths that match a pattern, as a shell has them: without hidden ones, and ``**`` through no link to a folder."""
    parts = Path(pattern).parts
    start = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    base = Path(*parts[:start])
    rest = [*parts[start:], *(["*"] if parts[-1] == "**" else [])]
    with suppress(OSError, ValueError):
        for path in base.glob(os.path.join(*rest)):  # noqa: PTH118  # a pattern, no path
            tail = path.parts[len(base.parts) :]
            if not any(part.startswith(".") for part in tail) or any(part.startswith(".") for part in rest):
                yield str(path)


def _walk_all(paths: Sequence[str], lists: Sequence[str], left_out: LeftOut) -> Iterator[Source]:
    for name in _walk_names(paths, lists):
        if isinstance(name, Source):
            yield name
        else:
            yield from walk_path(name, left_out)


def _walk_names(paths: Sequence[str], lists: Sequence[str]) -> Iterator[str | Source]:
    for path in paths:
        if _is_list(path):
            yield from filter(None, _read_lines(path.removeprefix("@")))
        elif _is_pattern(path):
            yield from _walk_pattern(path)
        else:
            yield path
    for name in lists:
        yield from filter(None, _read_lines(name))


def _is_pattern(path: str) -> bool:
    return is_remote_pattern(path) if is_remote(path) else glob.has_magic(path) and not os.path.lexists(path)


def _walk_pattern(pattern: str) -> Iterator[str | Source]:
    names = match_remote(pattern) if is_remote(pattern) else _match_local(pattern)
    first = next(names, None)
    if first is None:
        yield failed_source(pattern, "no picture or shard matches this pattern")
        return
    yield first
    yield from names


def _match_local(pattern: str) -> Iterator[str]:
    for name in sorted(_expand(pattern)):
        path = Path(name)
        if (is_shard(path) or path.suffix.lower() in IMAGE_SUFFIXES) and not is_folder(path):
            yield name


def _read_lines(name: str) -> Iterator[str]:
    """Lines of a file or of standard input, as they come, by plain reads: a thread may be left waiting in one.

    A byte order mark says UTF-16 or UTF-8, as editors and shells of Windows write them; else bytes are names of files.
    """
    copy = RemotePath(name).fetch() if is_remote(name) else None
    handle = 0 if name == STANDARD_INPUT else os.open(name if copy is None else copy.path, os.O_RDONLY)
    try:
        decoder, rest = None, ""
        while chunk := os.read(handle, _CHUNK_BYTES):
            if decoder is None:
                decoder = _choose_decoder(chunk)
            *lines, rest = (rest + decoder.decode(chunk)).split("\n")
            yield from (line.removesuffix("\r") for line in lines)
        if decoder is not None:
            yield (rest + decoder.decode(b"", final=True)).removesuffix("\r")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: its byte order mark promises {error.encoding}; save it as UTF-8") from None
    finally:
        if handle:
            os.close(handle)


def _choose_decoder(first: bytes) -> codecs.IncrementalDecoder:
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return codecs.getincrementaldecoder("utf-16")()
    if first.startswith(codecs.BOM_UTF8):
        return codecs.getincrementaldecoder("utf-8-sig")(sys.getfilesystemencodeerrors())
    return codecs.getincrementaldecoder(sys.getfilesystemencoding())(sys.getfilesystemencodeerrors())
