"""Where pictures come from: files, folders, patterns, lists and shards, walked lazily and in a fixed order."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lfm_deploy.errors import InputError
from lfm_deploy.pictures.decoding import IMAGE_SUFFIXES, Source
from lfm_deploy.pictures.shards import SHARD_SUFFIXES, failed_source, is_picture, is_shard, walk_shard

STANDARD_INPUT = "-"
_CHUNK_BYTES = 1 << 16


def find_sources(paths: Sequence[str], lists: Sequence[str] = ()) -> Iterator[Source]:
    """Pictures in the order in which they were named; only the names of one folder or pattern are held at a time.

    Args:
        paths: names of what to read. Each is a file; a folder, whose pictures and those below come sorted, without
            hidden ones and other files; a shard (.zip, .tar, .tar.gz, .tgz), in its own order; a quoted pattern such as
            ``'*.png'`` or ``'**/*.jpg'``, for pictures and shards, sorted; or ``@list.txt`` or ``-``, a list. A name
            that exists is never taken for a pattern or a list.
        lists: files with one path a line, for files, folders and shards; ``-`` is standard input.

    Raises:
        InputError: nothing is there of all that was named, or a list cannot be read.
    """
    _check_any(paths, lists)
    return _walk_all(paths, lists)


def walk_images(folder: Path) -> Iterator[Path]:
    """Picture files in a folder and below, sorted by their parts; hidden files and folders are left out.

    Links to folders are not followed, so that loops cannot trap it. Folders that cannot be read are left out.
    """
    for path, problem in _walk_folder(folder):
        if problem is None:
            yield path


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
        if name != STANDARD_INPUT and not Path(name).is_file():
            raise InputError(f"{name}: no such list; it holds one path a line")
    if lists or not paths:
        return
    if not any(_is_list(path) or os.path.lexists(path) or _matches(path) for path in paths):
        raise InputError(f"{paths[0]}: no such file or folder, and no pattern that matches any")


def _is_list(path: str) -> bool:
    return path == STANDARD_INPUT or (path.startswith("@") and not os.path.lexists(path))


def _matches(path: str) -> bool:
    return glob.has_magic(path) and next(_expand(path), None) is not None


def _expand(pattern: str) -> Iterator[str]:
    # Path.glob takes no absolute patterns, and makes a Path of every file that does not match.
    return glob.iglob(pattern, recursive=True)  # noqa: PTH207


def _walk_all(paths: Sequence[str], lists: Sequence[str]) -> Iterator[Source]:
    for path in paths:
        if _is_list(path):
            yield from _walk_list(path.removeprefix("@"))
        elif glob.has_magic(path) and not os.path.lexists(path):
            yield from _walk_pattern(path)
        else:
            yield from _walk_path(path)
    for name in lists:
        yield from _walk_list(name)


def _walk_path(name: str) -> Iterator[Source]:
    path = Path(name)
    if path.is_dir():
        for found, problem in _walk_folder(path):
            yield file_source(found) if problem is None else failed_source(str(found), problem)
    elif is_shard(path):
        yield from walk_shard(path)
    else:
        yield file_source(name)


def _walk_pattern(pattern: str) -> Iterator[Source]:
    found = False
    for name in sorted(_expand(pattern)):
        path = Path(name)
        if (is_shard(path) or path.suffix.lower() in IMAGE_SUFFIXES) and not path.is_dir():
            found = True
            yield from _walk_path(name)
    if not found:
        yield failed_source(pattern, "no picture or shard matches this pattern")


def _walk_list(name: str) -> Iterator[Source]:
    for line in _read_lines(name):
        if line:
            yield from _walk_path(line)


def _read_lines(name: str) -> Iterator[str]:
    """Lines of a file or of standard input, as they come, by plain reads: a thread may be left waiting in one."""
    handle = 0 if name == STANDARD_INPUT else os.open(name, os.O_RDONLY)
    try:
        rest = b""
        while chunk := os.read(handle, _CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from _decoded(lines)
        yield from _decoded([rest])
    finally:
        if handle:
            os.close(handle)


def _decoded(lines: Iterable[bytes]) -> Iterator[str]:
    return (os.fsdecode(line.removesuffix(b"\r")) for line in lines)


def _walk_folder(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Pictures, and folders that cannot be read with the reason, as ``sorted`` would put their paths."""
    waiting = [_list_folder(folder)]
    while waiting:
        path, is_folder, problem = next(waiting[-1], (None, False, None))
        if path is None:
            waiting.pop()
        elif is_folder:
            waiting.append(_list_folder(path))
        else:
            yield path, problem


def _list_folder(folder: Path) -> Iterator[tuple[Path, bool, str | None]]:
    """Pictures and folders in a folder, sorted: path, whether it is a folder, why it cannot be read."""
    names, folders = [], set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    folders.add(entry.name)
                elif not is_picture(entry.name) or entry.is_dir():
                    continue
                names.append(entry.name)
    except OSError as error:
        yield folder, False, f"cannot be listed: {error.strerror}"
        return
    for name in sorted(names):
        yield folder / name, name in folders, None
