"""The content of picture files, so that a picture is known again under any name, and an edited one is not."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

# Files handed to the hashing threads at a time, so that Ctrl-C waits for these alone.
_WINDOW = 1024


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A file as it was when it was hashed.

    Attributes:
        sha256: SHA-256 of the content, in hex.
        bytes: size of the file in bytes.
        changed_ns: time of the last change, in nanoseconds since 1970.
    """

    sha256: str
    bytes: int
    changed_ns: int

    def still_holds(self, path: Path) -> bool:
        """Whether the file has not been written since."""
        try:
            found = path.stat()
        except OSError:
            return False
        return (found.st_size, found.st_mtime_ns) == (self.bytes, self.changed_ns)


def fingerprint_files(
    paths: Sequence[Path], on_progress: Callable[[int, int], None] = lambda *_: None
) -> list[Fingerprint | None]:
    """Hash files in threads; None for what is no regular file or cannot be read.

    Args:
        paths: paths of the files.
        on_progress: function that is given the number of files done, and of all files.
    """
    found: list[Fingerprint | None] = []
    for print_ in _fingerprint_all(paths):
        found.append(print_)
        on_progress(len(found), len(paths))
    return found


def _fingerprint_all(paths: Sequence[Path]) -> Iterator[Fingerprint | None]:
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="hash-file") as pool:
        for start in range(0, len(paths), _WINDOW):
            yield from pool.map(_fingerprint, paths[start : start + _WINDOW])


def _fingerprint(path: Path) -> Fingerprint | None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None  # opening a pipe would wait for ever
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
    return Fingerprint(digest, before.st_size, before.st_mtime_ns)
