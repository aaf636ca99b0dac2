"""Pictures in a folder and below, in the order of sorted paths; one bad entry costs one row.

Links to folders are not followed, so that loops cannot trap the walk. Hidden entries, files of other kinds, shards and
links to folders are left out and counted.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from lfm_deploy.errors import InputError
from lfm_deploy.pictures.left_out import LeftOut, kind_of_name
from lfm_deploy.pictures.members import is_picture
from lfm_deploy.pictures.shards import is_shard


def walk_folder(folder: Path, left_out: LeftOut | None = None) -> Iterator[tuple[Path, str | None]]:
    """Pictures with None, and what cannot be read with the reason, as ``sorted`` would put their paths.

    Args:
        folder: path of the folder to walk.
        left_out: counter of what is passed over.
    """
    counts = LeftOut() if left_out is None else left_out
    waiting = [_list_folder(folder, counts)]
    while waiting:
        path, is_folder, problem = next(waiting[-1], (None, False, None))
        if path is None:
            waiting.pop()
        elif is_folder:
            waiting.append(_list_folder(path, counts))
        else:
            yield path, problem


def walk_images(folder: Path, left_out: LeftOut | None = None) -> Iterator[Path]:
    """Picture files in a folder and below, sorted by their parts.

    Args:
        folder: path of the folder to walk; a missing one holds no picture.
        left_out: counter of what is passed over.

    Raises:
        InputError: a folder in it cannot be listed, so that its pictures would be missing from every figure.
    """
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: cannot be read: {getattr(error, 'strerror', error)}; make it readable") from None
    for path, problem in walk_folder(folder, left_out):
        if problem is not None and not is_picture(path.name):
            raise InputError(f"{path}: {problem}; make it readable, or move it away")
        yield path


def is_folder(path: Path | str) -> bool:
    """Whether a path is a folder that can be looked at; False for names that no file can have."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: Path | str) -> bool:
    """Whether a path is a file that can be looked at, or something to read from, such as a pipe."""
    try:
        return Path(path).exists() and not Path(path).is_dir()
    except (OSError, ValueError):
        return False


def _list_folder(folder: Path, counts: LeftOut) -> Iterator[tuple[Path, bool, str | None]]:
    """Pictures and folders in a folder, sorted: path, whether it is a folder, why it cannot be read."""
    found: dict[str, tuple[bool, str | None]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if (kind := _judge_entry(entry, counts)) is not None:
                    found[entry.name] = kind
    except OSError as error:
        yield folder, False, f"cannot be listed: {error.strerror}"
        return
    for name in sorted(found):
        yield folder / name, *found[name]


def _judge_entry(entry: "os.DirEntry[str]", counts: LeftOut) -> tuple[bool, str | None] | None:
    """Whether an entry is a folder, and why it cannot be read; None for what is left out, which is counted."""
    try:
        if entry.is_dir(follow_symlinks=False):
            if not entry.name.startswith("."):
                return True, None
            counts["hidden folder"] += 1
            return None
        if entry.is_dir():
            counts["linked folder"] += 1
            return None
    except OSError as error:  # a link in a circle
        return (False, f"cannot be read: {error.strerror}") if is_picture(entry.name) else None
    if is_picture(entry.name):
        return False, None
    if entry.name.startswith("."):
        counts["hidden file"] += 1
    else:
        counts["shard" if is_shard(Path(entry.name)) else kind_of_name(entry.name)] += 1
    return None
