"""Files that are there whole or not at all, singly or several together, also after kill -9.

One file: written beside its place under a temporary name, flushed to the disk, renamed. Several files:
each is prepared in that way, then a journal that lists the renames is itself renamed into place: that is the
moment from which all of them exist. The renames follow; whoever opens the folder next finishes them
(``finish_commits``) if the process died in between.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_TEMPORARY = ".lfm-tmp-"
_JOURNAL = ".lfm-commit-"


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
    temporary = _temporary_beside(path)
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
    journal = _temporary_beside(folder / "journal")
    try:
        for path, content in contents.items():
            temporary = _temporary_beside(path)
            prepared[temporary.name] = path.name
            temporary.write_bytes(content)
            _flush(temporary)
        journal.write_text(json.dumps(prepared))
        _flush(journal)
        committed = journal.with_name(journal.name.replace(_TEMPORARY, _JOURNAL, 1))
        _flush(folder)
        journal.replace(committed)
    except BaseException:
        for name in (journal.name, *prepared):
            (folder / name).unlink(missing_ok=True)
        raise
    _flush(folder)
    _finish(committed)


def finish_commits(folder: Path) -> None:
    """Finish what ``write_together`` had committed when its process died.

    Safe beside a process that is committing now: both rename the same prepared files to the same places.
    """
    for journal in sorted(folder.glob(f"{_JOURNAL}*")):
        _finish(journal)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of processes that died; call it only while no other process writes here."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _finish(journal: Path) -> None:
    try:
        renames: dict[str, str] = json.loads(journal.read_text())
    except FileNotFoundError:
        return  # somebody else has just finished it
    for temporary, name in renames.items():
        try:
            journal.with_name(temporary).replace(journal.with_name(name))
        except FileNotFoundError:
            continue  # renamed before the process died
    _flush(journal.parent)
    journal.unlink(missing_ok=True)


def _temporary_beside(path: Path) -> Path:
    handle, name = tempfile.mkstemp(prefix=f"{_TEMPORARY}{path.name}-", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    temporary.chmod(0o644)
    return temporary


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
