"""The file of one part's results: a first line that says what it is, sealed, then the rows as predict has them.

``tail -n +2 FILE`` is what predict prints for the same pictures; of a Parquet file, the first line is in the metadata.
A file is written whole or not at all, and read back checked, so that what is there can be skipped and collected without
being judged again.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from lfm_deploy.errors import ArtifactError, WriteError
from lfm_deploy.prediction.parquet import (
    PARQUET_SUFFIX,
    read_parquet,
    read_part_of_parquet,
    require_pyarrow,
    write_parquet,
)
from lfm_deploy.prediction.part_counts import PartCounts as PartCounts  # its file says what is counted
from lfm_deploy.prediction.parts import PART_SUFFIX, Part
from lfm_deploy.prediction.rows import RowFormat, write_header, write_rows
from lfm_deploy.storage.atomic import sha256_of_bytes
from lfm_deploy.storage.places import Place, write_whole
from lfm_deploy.storage.sealed_values import seal_values, take_seal
from lfm_deploy.storage.text import decode_text
from lfm_deploy.storage.values import Count, Reader, Sha256

PART_SUFFIXES = (PART_SUFFIX, f"{PART_SUFFIX}{PARQUET_SUFFIX}")
_FORMAT = "lfm-deploy part 1"
_REMEDY = "remove it, and judge its part again by the command that made it"
# A hundred times what the settings take.
_MOST_HEAD_BYTES = 1 << 20
# Where locks hold on one node alone, another that starts may take a temporary file for a leftover, which it does once.
_TRIES = 3
# Of these, results of one list may come from several: another node has another processor, and card 1 is as good as 0.
_OF_THE_MACHINE = ("device", "libraries", "processor")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartHead:
    """The first line of a part's file.

    Attributes:
        part: name of the part for people; bytes that are no UTF-8 are escaped.
        part_sha256: SHA-256 of the names of what was judged, as ``Part`` has it.
        shard_bytes: size of the shard in bytes when it was judged; None where there is no shard, or none was found.
        rows_format: format of the rows: ``"csv"``, ``"jsonl"`` or ``"parquet"``.
        settings: values that rows depend on, the same for all parts of a list.
        settings_sha256: SHA-256 of the settings.
        machine: values of the machine that judged it; logits may depend on them in their last bits.
        counts: number of pictures of each kind.
        problem: reason why the shard could not be read, or not to its end; None where it could.
        rows_bytes: number of bytes of the rows; those of a Parquet file count as CSV.
        rows_sha256: SHA-256 of these bytes.
    """

    part: str
    part_sha256: Sha256
    shard_bytes: Count | None
    rows_format: Literal["csv", "jsonl", "parquet"]
    settings: dict[str, Any]
    settings_sha256: Sha256
    machine: dict[str, Any]
    counts: PartCounts
    problem: str | None
    rows_bytes: Count
    rows_sha256: Sha256

    def __post_init__(self) -> None:
        if self.settings_sha256 != hash_settings(self.settings):
            raise ArtifactError("settings_sha256 is not that of the settings")


def split_settings(run: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What must be the same for all parts of a list, and what may be each machine's own.

    Args:
        run: values from ``describe_run``.

    Returns:
        Settings and machine, plain as JSON reads them back; among the settings is the kind of device without its
        number.
    """
    plain = json.loads(json.dumps(run))
    machine = {name: plain.pop(name) for name in _OF_THE_MACHINE if name in plain}
    return plain | {"device": str(machine.get("device", "")).partition(":")[0]}, machine


def hash_settings(settings: Mapping[str, Any]) -> str:
    """SHA-256 of settings, in hexadecimal.

    Args:
        settings: plain values.
    """
    return sha256_of_bytes(json.dumps(settings, sort_keys=True).encode())


def readable(text: str) -> str:
    """A name or a reason as text that every JSON file can hold; bytes that are no UTF-8 are escaped.

    Args:
        text: name as Python has it from the file system.
    """
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def place_part(folder: Place, part: Part, form: RowFormat) -> Place:
    """Where the results of a part lie.

    Args:
        folder: folder of the results.
        part: part of a list.
        form: format of the rows.
    """
    return folder / (part.file_name + (PARQUET_SUFFIX if form is RowFormat.PARQUET else ""))


def write_part(path: Place, head: PartHead, rows: bytes) -> None:
    """Write a part's file, whole or not at all.

    Args:
        path: path or URL of the file; one that is there is replaced.
        head: values of its first line.
        rows: rows behind it, with their heading; for Parquet those of CSV, all of it UTF-8.

    Raises:
        StoreError: the store does not take it.
        WriteError: the file cannot be written.
    """
    first = json.dumps(seal_values({"format": _FORMAT} | asdict(head)), allow_nan=False).encode()
    for left in reversed(range(_TRIES)):
        try:
            with write_whole(path) as temporary:
                _write(temporary, head, first, rows)
            return
        except OSError as error:
            if not (isinstance(error, FileNotFoundError) and left):
                remedy = "make room or choose another --output-dir; what is there is kept"
                raise WriteError(path, error, remedy) from None


def _write(path: Path, head: PartHead, first: bytes, rows: bytes) -> None:
    if head.rows_format == "parquet":
        block, provenance = rows[rows.index(b"\n") + 1 :], head.settings.get("provenance") is True
        write_parquet(path, [block], RowFormat.PARQUET, head.settings, provenance=provenance, part=first)
        return
    with path.open("wb") as file:
        file.write(first + b"\n")
        file.write(rows)


def read_part(path: Place) -> tuple[PartHead, bytes]:
    """The first line of a part's file and its rows, both checked.

    Args:
        path: path or URL of the file.

    Raises:
        ArtifactError: the file cannot be read, is damaged, or of another kind.
        FileNotFoundError: there is no such file.
        StoreError: the store refuses, or is out of reach.
    """
    reader = Reader(where=str(path), remedy=_REMEDY)
    with _opened(path, reader) as file:
        head = _parse_head(file, reader, path.suffix)
        file.seek(0)
        return head, _parse_rows(file, reader, head)


def read_head(path: Place) -> PartHead:
    """The first line of a part's file, checked; the rows are not read.

    Args:
        path: path or URL of the file.

    Raises:
        ArtifactError: the file cannot be read, is damaged, or of another kind.
        FileNotFoundError: there is no such file.
        StoreError: the store refuses, or is out of reach.
    """
    reader = Reader(where=str(path), remedy=_REMEDY)
    with _opened(path, reader) as file:
        return _parse_head(file, reader, path.suffix)


def read_rows(path: Place, head: PartHead) -> bytes:
    """The rows of a part's file, with their heading, checked; those of a Parquet file are CSV.

    Args:
        path: path or URL of the file.
        head: first line of it, from ``read_head``.

    Raises:
        ArtifactError: the file cannot be read, or its rows are not those that were written.
        FileNotFoundError: there is no such file.
        StoreError: the store refuses, or is out of reach.
    """
    reader = Reader(where=str(path), remedy=_REMEDY)
    with _opened(path, reader) as file:
        return _parse_rows(file, reader, head)


@contextmanager
def _opened(path: Place, reader: Reader) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise
    except OSError as error:
        reader.refuse(f"cannot be read ({error.strerror or error})")


def _parse_head(file: BinaryIO, reader: Reader, suffix: str) -> PartHead:
    if suffix == PARQUET_SUFFIX:
        require_pyarrow()
        line = read_part_of_parquet(file)
        if line is None:
            reader.refuse("damaged or changed since it was made, or no file of predict --output-dir")
    else:
        line = file.readline(_MOST_HEAD_BYTES)
        if not line.endswith(b"\n"):
            reader.refuse("cut short, or no file of predict --output-dir")
    try:
        values = reader.parse_json(decode_text(line))
    except UnicodeDecodeError:
        reader.refuse("no file of predict --output-dir")
    take_seal(values, reader) if isinstance(values, dict) else None
    reader.take_format(values, _FORMAT)
    return reader.convert(values, PartHead)


def _parse_rows(file: BinaryIO, reader: Reader, head: PartHead) -> bytes:
    if head.rows_format == "parquet":
        heading = write_header(RowFormat.PARQUET, provenance=head.settings.get("provenance") is True)
        try:
            rows = heading + write_rows(read_parquet(file), RowFormat.PARQUET)
        except ValueError as error:
            reader.refuse(f"damaged or changed since it was made ({error})")
    else:
        file.readline(_MOST_HEAD_BYTES)
        rows = file.read(head.rows_bytes + 1)
    if len(rows) != head.rows_bytes or hashlib.sha256(rows).hexdigest() != head.rows_sha256:
        reader.refuse("damaged or changed since it was made (its rows are not those that were written)")
    return rows


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two settings, for messages; empty where nothing does.

    Args:
        before: settings that rows were made with.
        now: other settings.
    """
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    return "; ".join(f"{name} {_shown(before.get(name))} and {_shown(now.get(name))}" for name in names)


def _shown(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text if len(text) <= 60 else f"{text[:57]}..."
