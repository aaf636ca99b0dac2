"""A results file that a killed run leaves so that the same run, started again, completes it byte for byte.

Rows are appended in blocks. Beside the file, ``FILE.progress.json`` says how many pictures its first bytes cover, under
which settings; it is renamed into place after these bytes are on the disk, and removed at the end. What stands behind
them, half a line perhaps, is cut off before a run continues.
"""

import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lfm_deploy.errors import InputError, WriteError
from lfm_deploy.pictures.decoding import Source
from lfm_deploy.storage.atomic import remove_leftovers, write_atomically
from lfm_deploy.storage.values import Count, Reader, Sha256

_FORMAT = "lfm-deploy progress 1"
_COMMIT_SECONDS = 1.0
_ROOM = "make room, then the same command continues it"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Progress:
    """What is known of an unfinished file.

    Attributes:
        settings: values that rows depend on apart from the list.
        pictures: number of pictures that the first bytes cover.
        bytes: number of these bytes.
        list_sha256: SHA-256 of the names of these pictures.
        content_sha256: SHA-256 of these bytes.
    """

    settings: dict[str, Any]
    pictures: Count
    bytes: Count
    list_sha256: Sha256
    content_sha256: Sha256


def progress_path(output: Path) -> Path:
    """Where the progress of an unfinished output file stands."""
    return output.with_name(f"{output.name}.progress.json")


class ResumableFile:
    """A results file that is being written. A context manager; only ``finish`` makes it complete.

    Attributes:
        pictures: number of pictures of the list that the file's rows cover.
        resumed: whether another run had begun it.
        commit_seconds: seconds of work that a kill may cost; each commit waits for the disk.
    """

    def __init__(
        self, path: Path, settings: Mapping[str, Any], header: bytes = b"", *, overwrite: bool = False
    ) -> None:
        """Begin a file, or continue it behind the last block that is known to be whole.

        Args:
            path: path of the file.
            settings: values that rows depend on apart from the list, as JSON takes them.
            header: first bytes of the file.
            overwrite: whether to begin anew, whatever is there.

        Raises:
            InputError: the file is complete, was begun with other settings, or changed since.
            WriteError: the file cannot be written.
        """
        self._path, self._settings = path, json.loads(json.dumps(settings))
        self._handle = _open_locked(path)
        self._list, self._content = hashlib.sha256(), hashlib.sha256()
        self._bytes = self.pictures = 0
        self._list_expected: str | None = None
        self.commit_seconds = _COMMIT_SECONDS
        self._committed_at = 0.0
        try:
            remove_leftovers(path.parent)
            progress = None if overwrite else self._read_progress()
            self.resumed = progress is not None
            self._is_whole = not self.resumed  # a wrong list must not be written down: see skip
            if progress is None:
                self._commit()
            else:
                self._continue(progress)
            os.ftruncate(self._handle, self._bytes)
            os.lseek(self._handle, self._bytes, os.SEEK_SET)
            if self._bytes == 0:
                self._write(header)
        except BaseException:
            if not self._bytes and not os.fstat(self._handle).st_size:
                path.unlink(missing_ok=True)  # of a run that never began, nothing is left
            os.close(self._handle)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._handle >= 0:
            if self._is_whole:
                self._commit()
            self.abandon()

    def skip(self, sources: Iterator[Source]) -> None:
        """Take the pictures that the file covers off the front of the list.

        Raises:
            InputError: the list is not the one that the file was begun with.
        """
        for _ in range(self.pictures):
            source = next(sources, None)
            # A list that is too short ends in a digest that nothing has.
            self._list.update(b"\0" if source is None else os.fsencode(source.name) + b"\0")
            if source is None:
                break
        if self._list_expected not in (None, self._list.hexdigest()):
            raise InputError(
                f"{self._path}: its first {self.pictures} pictures are not those of this list, so that it cannot be "
                "continued; name the same pictures, or use --overwrite to start anew"
            )
        self._is_whole = True

    def append(self, rows: bytes, names: Sequence[str]) -> None:
        """Add the rows of the next pictures of the list; they are safe on the disk within a second or so."""
        self._is_whole = False  # until all of this is done: an interrupt may come between any two lines
        self._write(rows)
        for name in names:
            self._list.update(os.fsencode(name) + b"\0")
        self.pictures += len(names)
        self._is_whole = True
        if time.monotonic() - self._committed_at >= self.commit_seconds:
            self._commit()

    def finish(self) -> None:
        """All rows are there: make them safe and remove the progress."""
        os.fsync(self._handle)
        progress_path(self._path).unlink(missing_ok=True)
        self.abandon()

    def abandon(self) -> None:
        """Let go of the file as it is; a later run continues behind the last block that was made safe."""
        os.close(self._handle)
        self._handle = -1

    def _write(self, content: bytes) -> None:
        self._content.update(content)
        self._bytes += len(content)
        view = memoryview(content)
        while view:
            try:
                view = view[os.write(self._handle, view) :]
            except OSError as error:
                raise WriteError(self._path, error, _ROOM) from None

    def _commit(self) -> None:
        os.fsync(self._handle)
        path = progress_path(self._path)
        progress = _Progress(
            settings=self._settings,
            pictures=self.pictures,
            bytes=self._bytes,
            list_sha256=self._list.hexdigest(),
            content_sha256=self._content.hexdigest(),
        )
        try:
            with write_atomically(path) as temporary, temporary.open("w") as file:
                json.dump({"format": _FORMAT} | asdict(progress), file, indent=2)
        except OSError as error:
            raise WriteError(path, error, _ROOM) from None
        self._committed_at = time.monotonic()

    def _read_progress(self) -> _Progress | None:
        """What an unfinished run left; None where there was none."""
        path = progress_path(self._path)
        if not os.path.lexists(path):  # no error where the name is too long
            if os.fstat(self._handle).st_size:
                raise InputError(f"{self._path}: is there already, and complete; use another name, or --overwrite")
            return None
        remedy = "damaged, or of another version: use --overwrite to start anew"
        reader = Reader(where=str(path), remedy=remedy, error=InputError)
        values = reader.read_json(path)
        reader.take_format(values, _FORMAT)
        progress = reader.convert(values, _Progress)
        before = progress.settings
        changes = [
            f"{name} was {_shown(before.get(name))}, is {_shown(self._settings.get(name))}"
            for name in sorted({*before, *self._settings})
            if before.get(name) != self._settings.get(name)
        ]
        if changes:
            raise InputError(
                f"{self._path}: was begun otherwise: {'; '.join(changes)}. Repeat the arguments that it was begun with "
                "to continue it, or use --overwrite to start anew"
            )
        return progress

    def _continue(self, progress: _Progress) -> None:
        self.pictures, self._bytes = progress.pictures, progress.bytes
        self._list_expected = progress.list_sha256
        left = self._bytes
        os.lseek(self._handle, 0, os.SEEK_SET)
        while left and (chunk := os.read(self._handle, min(left, _CHUNK_BYTES))):
            self._content.update(chunk)
            left -= len(chunk)
        if left or self._content.hexdigest() != progress.content_sha256:
            raise InputError(
                f"{self._path}: was changed since it was interrupted, so that it cannot be continued; use --overwrite "
                "to start anew"
            )


def _open_locked(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise WriteError(path, error, "choose another --output") from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise InputError(f"{path}: not a file that can be continued; leave --output out and redirect stdout")
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(f"{path}: another lfm-deploy is writing it; wait for it, or use another name") from None
    except InputError:
        os.close(handle)
        raise
    return handle


def _shown(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text
