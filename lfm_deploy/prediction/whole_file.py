"""A results file that appears when it is complete: Parquet, whose end says what is in it, and any object of a store.

Rows of a Parquet file on this machine are kept as JSON lines beside it until then, in ``FILE.rows.jsonl``, so that an
interrupted run goes on. Those of an object are kept in a file without a name, and go with their process.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lfm_deploy.errors import InputError, WriteError, first_line
from lfm_deploy.pictures.decoding import Source
from lfm_deploy.prediction.destinations import check_results_file
from lfm_deploy.prediction.parquet import check_parquet, require_pyarrow, rows_path, write_parquet
from lfm_deploy.prediction.resumption import ResumableFile
from lfm_deploy.prediction.rows import RowFormat
from lfm_deploy.storage.places import Place, Unnamed, write_whole

_ROWS_A_GROUP = 1 << 16


class WholeFile:
    """A results file that is there when ``finish`` has returned; else written to like a ``ResumableFile``.

    Attributes:
        pictures: number of pictures of the list that its rows cover.
        resumed: whether another run had begun it.
    """

    def __init__(
        self, output: Place, settings: Mapping[str, Any], header: bytes, form: RowFormat, *, overwrite: bool = False
    ) -> None:
        """Begin a file, or continue it.

        Args:
            output: path or URL of the file.
            settings: values that rows depend on apart from the list, as JSON takes them.
            header: first bytes of the file; Parquet has none.
            form: format of the file.
            overwrite: whether to begin anew, and what is there may be lost.

        Raises:
            InputError: the file is there, was begun with other settings, or was not written by predict.
            StoreError: the store refuses, or is out of reach.
            UnavailableError: the file is to be Parquet, and pyarrow is not installed.
            WriteError: the file cannot be written.
        """
        self._output, self._settings, self._form = output, settings, form
        _check(output, form, overwrite=overwrite)
        self._pictures = 0
        self._kept = (
            ResumableFile(rows_path(output), settings, overwrite=overwrite) if isinstance(output, Path) else None
        )
        self._copy = Unnamed()
        if form is not RowFormat.PARQUET:
            self._write(header)

    @property
    def pictures(self) -> int:
        """Number of pictures of the list that its rows cover."""
        return self._pictures if self._kept is None else self._kept.pictures

    @property
    def resumed(self) -> bool:
        """Whether another run had begun it."""
        return self._kept is not None and self._kept.resumed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._kept is not None:
            self._kept.__exit__(kind, error, at)

    def skip(self, sources: Iterator[Source]) -> None:
        """Take the pictures that the file covers off the front of the list.

        Raises:
            InputError: the list is not the one that the file was begun with.
        """
        if self._kept is not None:
            self._kept.skip(sources)

    def append(self, rows: bytes, names: Sequence[str]) -> None:
        """Add the rows of the next pictures of the list; for Parquet as JSON lines."""
        if self._kept is not None:
            self._kept.append(rows, names)
        else:
            self._write(rows)
            self._pictures += len(names)

    def finish(self) -> None:
        """All rows are there: write the file.

        Raises:
            InputError: rows of the run before were changed by somebody who mended their check sum, too.
            StoreError: the store does not take it.
            WriteError: the file cannot be written.
        """
        path = rows_path(self._output) if isinstance(self._output, Path) else self._copy.path
        try:
            if self._form is RowFormat.PARQUET:
                with write_whole(self._output) as temporary:
                    provenance = self._settings.get("provenance") is True
                    write_parquet(temporary, _blocks(path), RowFormat.JSONL, self._settings, provenance=provenance)
            elif not isinstance(self._output, Path):
                self._output.put(path)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: holds rows that predict did not write ({first_line(error)}); use --overwrite to start anew"
            ) from None
        except OSError as error:
            raise WriteError(self._output, error, "make room; the same command again writes it") from None
        if self._kept is not None:
            self._kept.finish()
            path.unlink()

    def _write(self, content: bytes) -> None:
        try:
            with self._copy.path.open("ab") as file:
                file.write(content)
        except OSError as error:
            raise WriteError(f"rows for {self._output}", error, "set TMPDIR to a folder with room") from None


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := b"".join(islice(file, _ROWS_A_GROUP)):
            yield block


def _check(output: Place, form: RowFormat, *, overwrite: bool) -> None:
    if form is RowFormat.PARQUET:
        require_pyarrow()
    is_there = os.path.lexists(output) if isinstance(output, Path) else output.exists()
    if is_there and not overwrite:
        raise InputError(f"{output}: is there already, and complete; use another name, or --overwrite")
    if is_there and form is RowFormat.PARQUET:
        check_parquet(output)
    elif is_there:
        check_results_file(output, overwrite=True)
