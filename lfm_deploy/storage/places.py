"""Where files lie: paths of this machine, and URLs of stores that fsspec knows, read and written whole in one way.

An object of a store is read through a copy without a name in the folder for temporary files (TMPDIR): the kernel takes
it back when its last reader has gone, whatever ends the process. It is written by one put of a file that is complete.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal

from lfm_deploy.errors import StoreError, WriteError
from lfm_deploy.storage.atomic import write_atomically
from lfm_deploy.storage.stores import FULL, Asked, ask_store, find_store, no_room

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_TRIES = 3


def is_remote(name: object) -> bool:
    """Whether a name is a URL, such as ``s3://bucket/shard.tar``, and no path of this machine."""
    return _SCHEME.match(str(name)) is not None


@dataclass(frozen=True, slots=True)
class RemotePath:
    """An object or a folder of a store, with what the paths of this machine offer and is used here.

    Every method may raise a ``StoreError`` that says in one line why the store refuses or is out of reach, or an
    ``UnavailableError`` where its library or credentials are missing.

    Attributes:
        url: name of it, as in ``s3://bucket/shard.tar``; no slash at its end.
    """

    url: str

    def __post_init__(self) -> None:
        scheme, _, rest = self.url.partition("://")
        object.__setattr__(self, "url", f"{scheme}://{rest.rstrip('/')}")

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.url}/{name}")

    @property
    def name(self) -> str:
        """What stands behind the last slash."""
        return self.url.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The end of the name from its last dot."""
        return PurePosixPath(self.name).suffix

    def exists(self) -> bool:
        """Whether there is an object of this name, or any below it."""
        return self._find_kind() is not None

    def is_dir(self) -> bool:
        """Whether there are objects below this name."""
        return self._find_kind() == "directory"

    def find_size(self) -> int | None:
        """Size of the object in bytes; None where the store does not say.

        Raises:
            FileNotFoundError: there is no such object.
        """
        size: int | None = self._ask(Asked.INFO)["size"]
        return size

    def list_folder(self) -> "list[tuple[RemotePath, bool, int | None]]":
        """What lies directly below: name, whether it is a folder itself, and size in bytes; in no order.

        Raises:
            FileNotFoundError: nothing does.
        """
        own = find_store(self.url)[1].rstrip("/")
        found = []
        for entry in self._ask(Asked.LIST):
            name = entry["name"].rstrip("/")
            if name != own:  # the mark of a folder, or the object itself
                found.append((self / name.rpartition("/")[2], entry["type"] == "directory", entry.get("size")))
        return found

    def match(self, pattern: str) -> "list[RemotePath]":
        """Objects below whose names match a pattern, such as ``"**/*.tar"``.

        Args:
            pattern: pattern, with ``/`` between its parts.
        """
        own = find_store(self.url)[1].rstrip("/")
        return [self / name.removeprefix(own).lstrip("/") for name in self._ask(Asked.MATCH, f"{own}/{pattern}")]

    def read_start(self, size: int) -> bytes:
        """The first bytes of the object.

        Args:
            size: number of bytes at most.

        Raises:
            FileNotFoundError: there is no such object.
        """
        start: bytes = self._ask(Asked.HEAD, size)
        return start

    def read_bytes(self) -> bytes:
        """All of the object, in memory.

        Raises:
            FileNotFoundError: there is no such object.
        """
        content: bytes = self._ask(Asked.READ)
        return content

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """A copy of the object, to read; see ``fetch`` for the errors."""
        copy = self.fetch()  # held until its path has been opened
        return copy.path.open(mode)

    def fetch(self) -> "Unnamed":
        """A copy of the object in a file without a name.

        Raises:
            FileNotFoundError: there is no such object.
            WriteError: there is no room for it.
        """
        size = self.find_size()
        for left in reversed(range(_TRIES)):
            copy = Unnamed()
            try:
                self._ask(Asked.GET, str(copy.path))
                if size in (None, got := copy.path.stat().st_size):
                    return copy
                raise StoreError(f"{self.url}: ends behind {got} of {size} bytes; the same command again continues")
            except StoreError as error:
                if error.exit_code != StoreError.exit_code or not left:
                    raise
        raise AssertionError  # the last try returns or raises

    def put(self, path: Path) -> None:
        """Make the object of a file, in one put.

        Args:
            path: path of the file, which is complete.
        """
        self._ask(Asked.PUT, str(path))

    def _find_kind(self) -> str | None:
        try:
            kind: str = self._ask(Asked.INFO)["type"]
        except FileNotFoundError:
            return None
        return kind

    def _ask(self, asked: Asked, *arguments: str | int) -> Any:
        return ask_store(self.url, asked, *arguments)


Place = Path | RemotePath
"""Where a file lies, or is to lie."""


class Unnamed:
    """A file without a name in the folder for temporary files; gone with its last user, however that ends.

    Attributes:
        path: path by which this process opens it, for as long as this object lives.
    """

    __slots__ = ("_handle", "path")

    def __init__(self) -> None:
        try:
            with tempfile.TemporaryFile() as file:
                self._handle = os.dup(file.fileno())
        except OSError as error:
            raise WriteError("a temporary file", error, "set TMPDIR to a folder with room") from None
        self.path = Path(f"/proc/self/fd/{self._handle}")

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):
            os.close(self._handle)


def as_place(name: str | Path | RemotePath) -> Place:
    """The place that a name stands for: a URL, or a path of this machine."""
    if isinstance(name, RemotePath):
        return name
    return RemotePath(str(name)) if is_remote(name) else Path(name)


def find_size(place: Place) -> int | None:
    """Size of a file in bytes; None where there is none, or nobody says.

    Args:
        place: path or URL of the file.

    Raises:
        StoreError: the store refuses, or is out of reach.
    """
    try:
        return place.stat().st_size if isinstance(place, Path) else place.find_size()
    except (OSError, ValueError):
        return None


@contextmanager
def write_whole(place: Place) -> Iterator[Path]:
    """Yield a temporary path; what is written there becomes the file when the block ends without an error.

    Args:
        place: path or URL of the file; in a store it appears by one put.

    Raises:
        StoreError: the store does not take it.
        WriteError: there is no room for it on its way to the store.
    """
    if isinstance(place, Path):
        with write_atomically(place) as temporary:
            yield temporary
        return
    file = Unnamed()
    try:
        yield file.path
    except OSError as error:
        if error.errno in FULL:
            raise no_room(place, error) from None
        raise
    place.put(file.path)
