"""Pictures in stores: objects, folders, patterns and shards there, in the order that their copies on a disk would have.

A picture is read into memory by the thread that decodes it, a shard into a file without a name before it is walked.
What the store refuses ends the walk: it says nothing of a picture.
"""

import glob
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from lfm_deploy.errors import ImageError
from lfm_deploy.pictures.decoding import Source
from lfm_deploy.pictures.left_out import LeftOut, kind_of_name
from lfm_deploy.pictures.members import check_bytes, failed_source, is_picture
from lfm_deploy.pictures.opening import IMAGE_SUFFIXES
from lfm_deploy.pictures.shards import is_shard, walk_shard
from lfm_deploy.storage.places import RemotePath, Unnamed

_NO_FILE = "no such file"
_BEHIND_BUCKET = 3  # of the parts of a URL between slashes: scheme, nothing, bucket


def walk_remote(path: RemotePath, left_out: LeftOut) -> Iterator[Source]:
    """Pictures of an object, a folder or a shard in a store.

    Args:
        path: name of it.
        left_out: counter of what is passed over.

    Raises:
        StoreError: the store refuses, or is out of reach.
    """
    if is_shard(path):
        yield from walk_remote_shard(path, left_out)
    elif is_remote_folder(path):
        yield from walk_remote_pictures(path, left_out)
    else:
        yield remote_source(path)


def is_remote_folder(path: RemotePath) -> bool:
    """Whether objects lie below a name; what is called like a picture or a shard is one, and the store is not asked."""
    return not (path.suffix.lower() in IMAGE_SUFFIXES or is_shard(path)) and path.is_dir()


def remote_source(path: RemotePath, size: int | None = None) -> Source:
    """A picture in an object of its own.

    Args:
        path: name of it.
        size: size in bytes; None has the store asked.
    """
    return Source(str(path), partial(_load, path, size))


def walk_remote_pictures(folder: RemotePath, left_out: LeftOut) -> Iterator[Source]:
    """Pictures in a folder of a store and below; one folder is listed at a time.

    Args:
        folder: name of the folder.
        left_out: counter of what is passed over.

    Raises:
        StoreError: the store refuses, or is out of reach.
    """
    waiting = [_list_folder(folder, left_out)]
    while waiting:
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
        elif isinstance(found, RemotePath):
            waiting.append(_list_folder(found, left_out))
        else:
            yield found


def walk_remote_shard(path: RemotePath, left_out: LeftOut) -> Iterator[Source]:
    """Pictures of a shard in a store, which is copied first, and named as ``walk_shard`` has them.

    Args:
        path: name of the shard.
        left_out: counter of what is passed over.

    Raises:
        StoreError: the store refuses, or is out of reach.
        WriteError: there is no room for the copy.
    """
    try:
        copy = path.fetch()
    except FileNotFoundError:
        yield failed_source(str(path), _NO_FILE)
        return
    for source in walk_shard(copy.path, left_out, name=str(path)):
        yield Source(source.name, partial(_load_member, source, copy))


def is_remote_pattern(name: str) -> bool:
    """Whether a URL has ``*``, ``?`` or ``[`` behind its bucket, and no object has that very name."""
    return glob.has_magic("/".join(name.split("/")[_BEHIND_BUCKET:])) and not RemotePath(name).exists()


def match_remote(pattern: str) -> Iterator[str]:
    """Names of pictures and shards that match a pattern, sorted, without hidden ones.

    Args:
        pattern: URL for which ``is_remote_pattern`` holds.

    Raises:
        StoreError: the store refuses, or is out of reach.
    """
    parts = pattern.split("/")
    start = next(index for index, part in enumerate(parts) if index >= _BEHIND_BUCKET and glob.has_magic(part))
    base, rest = RemotePath("/".join(parts[:start])), parts[start:]
    wants_hidden = any(part.startswith(".") for part in rest)
    for path in sorted(base.match("/".join(rest)), key=str):
        hidden = any(part.startswith(".") for part in str(path).removeprefix(f"{base}/").split("/"))
        if (wants_hidden or not hidden) and (is_shard(path) or path.suffix.lower() in IMAGE_SUFFIXES):
            yield str(path)


def _load(path: RemotePath, size: int | None) -> bytes:
    try:
        size = path.find_size() if size is None else size
        check_bytes(size or 0)
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError(_NO_FILE) from None


def _load_member(source: Source, _copy: Unnamed) -> Path | bytes:
    """A member of a shard, whose copy is there as long as this function is."""
    return source.load()


def _list_folder(folder: RemotePath, counts: LeftOut) -> Iterator[Source | RemotePath]:
    """Pictures and folders in a folder, sorted; the rest is counted."""
    try:
        entries = folder.list_folder()
    except FileNotFoundError:
        return
    for path, is_folder, size in sorted(entries, key=lambda entry: entry[0].name):
        name = path.name
        if is_folder and not name.startswith("."):
            yield path
        elif is_folder:
            counts["hidden folder"] += 1
        elif is_picture(PurePosixPath(name).name):
            yield remote_source(path, size)
        elif name.startswith("."):
            counts["hidden file"] += 1
        else:
            counts["shard" if is_shard(path) else kind_of_name(name)] += 1
