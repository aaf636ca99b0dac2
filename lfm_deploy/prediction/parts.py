"""A list of pictures in parts that machines can share: a shard is one, and so are 10,000 pictures of a list.

A part follows from names alone, so that every machine, and whoever collects the results, divides a list in the same way
without opening a file of it.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lfm_deploy.errors import InputError
from lfm_deploy.pictures.decoding import Source
from lfm_deploy.pictures.left_out import LeftOut
from lfm_deploy.pictures.opening import IMAGE_SUFFIXES
from lfm_deploy.pictures.shards import is_shard
from lfm_deploy.pictures.sources import describe_nothing, find_names, names_folder, walk_path, walk_pictures
from lfm_deploy.storage.places import Place, as_place

PICTURES_A_PART = 10_000
PART_SUFFIX = ".part"
_LONGEST_STEM, _DIGITS = 80, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is judged as a whole, and has one file of results.

    Attributes:
        name: name for people: the path of the shard, or ``"first.png and 9999 more"``.
        sha256: SHA-256 of the names of what is judged, which tells this part from all others.
        shard: path or URL of the shard; None for pictures in files of their own.
        entries: names of what is judged, for ``walk_path``, and sources where a folder was walked already.
    """

    name: str
    sha256: str
    shard: Place | None
    entries: tuple[str | Source, ...]

    @property
    def first(self) -> str:
        """Name of the first of what is judged."""
        first = self.entries[0]
        return first if isinstance(first, str) else first.name

    @property
    def file_name(self) -> str:
        """Name of the file of its results."""
        stem = Path(self.first).name
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", stem).lstrip(".-")[:_LONGEST_STEM]
        return f"{safe or 'part'}-{self.sha256[:_DIGITS]}{PART_SUFFIX}"

    def walk(self, left_out: LeftOut) -> Iterator[Source]:
        """Its pictures, as ``find_sources`` has them.

        Args:
            left_out: counter of what is passed over.
        """
        for entry in self.entries:
            if isinstance(entry, Source):
                yield entry
            else:
                yield from walk_path(entry, left_out)


def find_parts(
    paths: Sequence[str], lists: Sequence[str] = (), left_out: LeftOut | None = None, *, most: int = PICTURES_A_PART
) -> Iterator[Part]:
    """Parts in the order of the list; their pictures, one part behind the other, are those of ``find_sources``.

    A shard is a part. Pictures that follow each other, named or in folders, make parts of ``most``.

    Args:
        paths: names of what to read, as ``find_sources`` takes them.
        lists: names of lists, as ``find_sources`` takes them.
        left_out: counter of what is passed over in folders.
        most: number of pictures in a part at most.

    Raises:
        InputError: there is nothing to read, a list cannot be read, or two parts are the same.
    """
    known: set[str] = set()
    for part in _divide(find_names(paths, lists), LeftOut() if left_out is None else left_out, most):
        if part.sha256 in known:
            raise InputError(
                f"{part.name}: comes twice, and results would count it twice; name it once (lists take 'sort -u')"
            )
        known.add(part.sha256)
        yield part
    if not known:
        raise InputError(describe_nothing([*paths, *lists]))


def _divide(names: Iterator[str | Source], left_out: LeftOut, most: int) -> Iterator[Part]:
    waiting: list[str | Source] = []
    for name in names:
        # What is called like a picture is not looked at: of a hundred million, each machine would ask the file system.
        if isinstance(name, Source) or f".{name.rpartition('.')[2].lower()}" in IMAGE_SUFFIXES:
            entries: Iterable[str | Source] = (name,)
        elif names_folder(name):
            entries = walk_pictures(name, left_out)
        elif is_shard(as_place(name)):
            if waiting:
                yield _make_part(waiting)
                waiting = []
            yield _make_part([name], shard=as_place(name))
            continue
        else:
            entries = (name,)
        for entry in entries:
            waiting.append(entry)
            if len(waiting) == most:
                yield _make_part(waiting)
                waiting = []
    if waiting:
        yield _make_part(waiting)


def _make_part(entries: Sequence[str | Source], shard: Place | None = None) -> Part:
    names = [entry if isinstance(entry, str) else entry.name for entry in entries]
    digest = hashlib.sha256()
    for name in names:
        digest.update(os.fsencode(name) + b"\0")
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return Part(name=names[0] + more, sha256=digest.hexdigest(), shard=shard, entries=tuple(entries))
