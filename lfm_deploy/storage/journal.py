"""The list of renames from which files that were written together come to exist; one that is damaged locks nothing.

It is read as a stranger's: names that leave the folder are never followed, and nothing of it happens unless all of it
can. A damaged one is put aside with a warning, and the folder is what it was before or, where the renames had begun,
what its artifacts' own check sums say.
"""

import errno
import json
import os
import stat
import warnings
from contextlib import suppress
from pathlib import Path

from lfm_deploy.errors import DeployWarning, WriteError

TEMPORARY = ".lfm-tmp-"
JOURNAL = ".lfm-commit-"
_ASIDE = ".lfm-damaged-"
_OURS = (TEMPORARY, JOURNAL, _ASIDE)
_MOST_BYTES = 1 << 20
# What no retry would mend: the journal names what cannot be.
_IMPOSSIBLE = frozenset({errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.ENOTEMPTY, errno.EEXIST})


class _DamagedError(Exception):
    """A journal is not what ``write_journal`` wrote; the text says why."""


def write_journal(path: Path, renames: dict[str, str]) -> None:
    """Write down which prepared files of a folder are to get which names.

    Args:
        path: path of the journal, in that folder.
        renames: names of the files, by the names under which they were prepared.
    """
    path.write_text(json.dumps(renames))


def follow_journal(journal: Path) -> None:
    """Do the renames of a journal as far as they have not been done, and remove it; put a damaged one aside.

    Raises:
        WriteError: the folder takes no rename.
    """
    try:
        renames = _read(journal)
        for temporary, name in renames.items():
            try:
                journal.with_name(temporary).replace(journal.with_name(name))
            except FileNotFoundError:
                continue  # renamed before the process died
    except FileNotFoundError:
        return  # somebody else has just finished it
    except _DamagedError as damage:
        _put_aside(journal, str(damage))
        return
    except OSError as error:
        if error.errno in _IMPOSSIBLE:
            _put_aside(journal, f"{error.strerror}: {error.filename2 or error.filename}")
            return
        remedy = f"make it writable, as files of an earlier command wait to be put in their places by {journal.name}"
        raise WriteError(journal.parent, error, remedy) from None
    _flush_folder(journal.parent)
    with suppress(FileNotFoundError):
        journal.unlink()


def _read(journal: Path) -> dict[str, str]:
    """The renames, after making sure that all of them can be followed."""
    try:
        handle = os.open(journal, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise _DamagedError(error.strerror) from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise _DamagedError("not a file")
        if found.st_size > _MOST_BYTES:
            raise _DamagedError(f"{found.st_size} bytes")
        content = file.read(_MOST_BYTES)
    try:
        renames = json.loads(content)
    except (ValueError, RecursionError):
        raise _DamagedError("not JSON" if content else "empty") from None
    if not isinstance(renames, dict) or not renames:
        raise _DamagedError("no list of names")
    names = list(renames.values())
    for temporary, name in renames.items():
        if not _is_name(temporary) or not temporary.startswith(TEMPORARY):
            raise _DamagedError(f"{temporary[:80]!r} is no prepared file")
        if not _is_name(name) or name.startswith(_OURS) or names.count(name) > 1:
            raise _DamagedError(f"{str(name)[:80]!r} is no name of a file of this folder")
        prepared = journal.with_name(temporary)
        if prepared.is_symlink() or (prepared.exists() and not prepared.is_file()):
            raise _DamagedError(f"{temporary[:80]!r} is not a file")
    return renames


def _is_name(name: object) -> bool:
    """Whether it names an entry of the folder itself, and can."""
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        return False
    try:
        return len(os.fsencode(name)) <= os.pathconf("/", "PC_NAME_MAX")
    except UnicodeEncodeError:
        return False


def _put_aside(journal: Path, reason: str) -> None:
    aside = journal.with_name(journal.name.replace(JOURNAL, _ASIDE, 1))
    outcome = f"it was put aside as {aside.name}"
    try:
        journal.replace(aside)
    except FileNotFoundError:
        return  # by somebody else
    except OSError as error:
        outcome = f"it cannot be put aside ({error.strerror}) and is passed over"
    warnings.warn(
        f"{journal}: the list of files that an earlier command was putting in their places is damaged ({reason}); "
        f"{outcome}. 'lfm-deploy inspect {journal.parent}' says what has to be made again",
        DeployWarning,
        stacklevel=2,
    )


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
