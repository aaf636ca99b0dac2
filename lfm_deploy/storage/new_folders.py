"""Folders that are made for something to come, and go again where it does not."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def make_folders(folder: Path) -> list[Path]:
    """Make a folder with those above it.

    Args:
        folder: path of the folder; it may be there.

    Returns:
        The folders that were missing, the uppermost first.

    Raises:
        OSError: the folder cannot be made; nothing is left of it.
    """
    made: list[Path] = []
    try:
        for path in reversed((folder, *folder.parents)):
            try:
                path.mkdir()
            except OSError:
                if not path.is_dir():
                    raise
            else:
                made.append(path)
    except OSError:
        remove_empty(made)
        raise
    return made


def remove_empty(made: Sequence[Path]) -> None:
    """Remove folders, unless somebody has put something into them.

    Args:
        made: paths of the folders, the uppermost first, as ``make_folders`` gives them.
    """
    with suppress(OSError):
        for path in reversed(made):
            path.rmdir()
