"""What is written must be none of what is read; links, hard links and ``..`` lead to the same file."""

from collections.abc import Iterable
from pathlib import Path

from lfm_deploy.errors import InputError


def refuse_input(option: str, written: Iterable[Path], read: Iterable[Path | str]) -> None:
    """Make sure, before anything is opened, that no file to write is one that is read.

    Args:
        option: name of what chooses the files to write, for the message.
        written: paths of files that are to be written; they need not exist.
        read: paths of files or folders that are read.

    Raises:
        InputError: a file would be both written and read.
    """
    targets = list(written)
    for source in map(Path, read):
        for target in targets:
            if is_same(source, target):
                raise InputError(
                    f"{option}: {target} would be written, and is one of the inputs ({source}); choose another name"
                )


def is_same(first: Path, second: Path) -> bool:
    """Whether two paths lead to one file or folder, or would if it existed."""
    try:
        return first.samefile(second)
    except (OSError, ValueError):
        pass
    try:
        return first.resolve() == second.resolve()
    except (OSError, RuntimeError, ValueError):  # a link in a circle, a NUL
        return False


def lies_in(path: Path, folder: Path) -> bool:
    """Whether a path is a folder or leads into it, through whatever links."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):
        return False
