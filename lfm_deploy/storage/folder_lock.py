"""One writer of a folder at a time; the lock is the kernel's, so that it ends with its process, however that ends."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lfm_deploy.errors import InputError, WriteError


@contextmanager
def lock_folder(folder: Path, on_busy: Callable[[str], None]) -> Iterator[None]:
    """Be the only writer of a folder, which is made where it is missing.

    Args:
        folder: path of the folder.
        on_busy: function that is given the number of the process that holds it; it may raise, or return to wait.

    Raises:
        InputError: the folder cannot be locked.
        WriteError: the folder cannot be made, or not be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise WriteError(folder, error, "choose another folder") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_busy(os.read(handle, 32).decode(errors="replace").strip() or "unknown")
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise InputError(f"{folder}: cannot be locked: {error.strerror}; choose another folder") from None
        with suppress(OSError):  # a full disk: the number is for the message of whoever waits
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)
