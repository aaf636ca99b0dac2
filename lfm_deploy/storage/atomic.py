"""Files that are there whole or not at all, singly or several together, also after kill -9.

One file: written beside its place under a temporary name, flushed to the disk, renamed. Several files:
each is prepared in that way, then a journal that lists the renames is itself renamed into place: that is the
moment from which all of them exist. The renames follow; whoever opens the folder next finishes them
(``finish_commits``) if the process died in between.

A temporary file is locked by its process, so that what a dead one left is told from what is being written: the next
process that writes into the folder removes it.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from lfm_deploy.storage.journal import JOURNAL, TEMPORARY, follow_journal, write_journal

_LONGEST_STEM = 40  # of a name inside a temporary one, which may be no longer than names may


def sha256_of_file(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_bytes(content: bytes) -> str:
    """Hex digest of bytes in memory."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path; what is written there becomes ``path`` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _named(path), _temporary_beside(path) as temporary:
        try:
            yield temporary
            _flush(temporary)
            temporary.replace(path)
            _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files of one folder so that all of them appear, or none.

    Files that were there before under these names are replaced together as well.
    """
    folder = next(iter(contents)).parent
    folder.mkdir(parents=True, exist_ok=True)
    prepared: dict[str, str] = {}
    with _named(folder), ExitStack() as locks:
        try:
            journal = locks.enter_context(_temporary_beside(folder / "journal"))
            prepared[journal.name] = ""
            for path, content in contents.items():
                temporary = locks.enter_context(_temporary_beside(path))
                prepared[temporary.name] = path.name
                temporary.write_bytes(content)
                _flush(temporary)
            write_journal(journal, {temporary: name for temporary, name in prepared.items() if name})
            _flush(journal)
            committed = journal.with_name(journal.name.replace(TEMPORARY, JOURNAL, 1))
            _flush(folder)
            journal.replace(committed)
        except BaseException:
            for name in prepared:
                (folder / name).unlink(missing_ok=True)
            raise
        _flush(folder)
        follow_journal(committed)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of the system name a file of the user's instead of none or a temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or TEMPORARY in str(error.filename)):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def finish_commits(folder: Path) -> None:
    """Finish what ``write_together`` had committed when its process died; a damaged journal is put aside.

    Safe beside a process that is committing now: both rename the same prepared files to the same places.

    Raises:
        WriteError: the folder takes no rename.
    """
    for journal in sorted(folder.glob(f"{JOURNAL}*")):
        follow_journal(journal)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of processes that died, after what they had committed; what lives is left alone."""
    if not folder.is_dir():
        return
    finish_commits(folder)
    for path in folder.glob(f"{TEMPORARY}*"):
        with suppress(OSError):  # of another user, or being written: the next one may succeed
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                _remove_dead(path)


def _remove_dead(path: Path) -> None:
    if path.is_symlink() or not path.is_file():
        path.unlink(missing_ok=True)
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    finally:
        os.close(handle)


@contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    """A temporary file that is locked until the block ends; its caller renames or removes it."""
    _tidy_once(path.parent)
    handle, temporary = _create_locked(path)
    try:
        yield temporary
    finally:
        os.close(handle)


def _create_locked(path: Path) -> tuple[int, Path]:
    while True:
        handle, name = tempfile.mkstemp(prefix=f"{TEMPORARY}{path.name[:_LONGEST_STEM]}-", dir=path.parent)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            os.fchmod(handle, 0o644)
        except BaseException:
            os.close(handle)
            Path(name).unlink(missing_ok=True)
            raise
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # somebody took it for a leftover before it was locked


@cache
def _tidy_once(folder: Path) -> None:
    """Remove leftovers before this process writes into a folder for the first time."""
    remove_leftovers(folder)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
