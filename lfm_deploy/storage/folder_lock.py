"""One writer of a folder at a time; the lock is the kernel's, so that it ends with its process, however that ends.

The lock's file is there only while somebody holds the folder, or was killed: whoever lets go removes it. Whoever waited
for a file that is removed by then holds nothing with it, and begins again.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lfm_deploy.errors import InputError, WriteError
from lfm_deploy.storage.new_folders import make_folders, remove_empty

_NAME = ".lock"
_RETRIES = 99


@contextmanager
def lock_folder(folder: Path, on_busy: Callable[[str], None]) -> Iterator[None]:
    """Be the only writer of a folder, which is made where it is missing; an error in the block leaves none that is new.

    Args:
        folder: path of the folder.
        on_busy: function that is given the number of the process that holds it; it may raise, or return to wait.

    Raises:
        InputError: the folder cannot be locked.
        WriteError: the folder cannot be made, or not be written.
    """
    made: list[Path] = []
    try:
        handle = _hold(folder, on_busy, made)
        try:
            with suppress(OSError):  # a full disk: the number is for the message of whoever waits
                os.ftruncate(handle, 0)
                os.pwrite(handle, str(os.getpid()).encode(), 0)
            yield
        finally:
            _let_go(folder / _NAME, handle)
    except BaseException:
        remove_empty(made)
        raise


def _hold(folder: Path, on_busy: Callable[[str], None], made: list[Path]) -> int:
    """A handle of the lock's file, locked while that is in its place; folders that were made come into ``made``."""
    while True:
        handle = _open(folder, made)
        try:
            _lock(handle, folder, on_busy)
        except BaseException:
            os.close(handle)
            raise
        if _is_at(folder / _NAME, handle):
            return handle
        os.close(handle)  # who held it has removed it


def _open(folder: Path, made: list[Path]) -> int:
    try:
        for _ in range(_RETRIES):
            with suppress(FileNotFoundError, FileExistsError):  # others may have removed the folder in between
                return _create(folder, made)
        return _create(folder, made)
    except OSError as error:
        raise WriteError(folder, error, "choose another folder") from None


def _create(folder: Path, made: list[Path]) -> int:
    made += make_folders(folder)
    return os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o644)


def _lock(handle: int, folder: Path, on_busy: Callable[[str], None]) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_busy(os.read(handle, 32).decode(errors="replace").strip() or "unknown")
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if not os.fstat(handle).st_size:  # nobody has ever held it
            (folder / _NAME).unlink(missing_ok=True)
        raise InputError(f"{folder}: cannot be locked: {error.strerror}; choose another folder") from None


def _let_go(path: Path, handle: int) -> None:
    """Remove the lock's file before it is unlocked, unless another one has come into its place."""
    try:
        if _is_at(path, handle):
            with suppress(OSError):  # nobody may write in the folder any more: the file does no harm
                path.unlink()
    finally:
        os.close(handle)


def _is_at(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except OSError:
        return False
