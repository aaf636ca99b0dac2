"""Rows of predict as a Parquet file, by pyarrow: one row group a block of rows, with the settings in its metadata.

Texts of Parquet are UTF-8, so that bytes of names that are none are escaped; else what is written is read back as the
very rows of CSV. The file of a part is sealed: its metadata has the SHA-256 of the file with these digits set to 0, so
that one changed bit anywhere is damage, also in the statistics by which others skip rows.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from lfm_deploy.errors import InputError, first_line, missing_library
from lfm_deploy.pictures.provenance import PROVENANCE_COLUMNS, Provenance
from lfm_deploy.prediction.rows import COLUMNS, Prediction, RowFormat
from lfm_deploy.storage.places import Place

PARQUET_SUFFIX = ".parquet"
_METADATA_KEY, _PART = b"lfm_deploy", b"lfm_deploy_part"
_SEAL_KEY, _BLANK = b"lfm_deploy_sha256", b"0" * 64
# The entry as Thrift writes it: the key, then a text of 64 bytes.
_SEAL = _SEAL_KEY + b"\x18\x40"
_NOTES_BETWEEN = "; "
_ROWS_A_BATCH = 10_000


def rows_path(output: Path) -> Path:
    """Where the rows of an unfinished Parquet file stand."""
    return output.with_name(f"{output.name}.rows.jsonl")


def require_pyarrow() -> None:
    """Make sure that Parquet can be written.

    Raises:
        UnavailableError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401  # whether it is there
    except ImportError as error:
        raise missing_library(error, "pyarrow", "pip install 'lfm-deploy[parquet]'") from None


def write_parquet(
    path: Path,
    blocks: Iterable[bytes],
    form: RowFormat,
    settings: Mapping[str, Any],
    *,
    provenance: bool,
    part: bytes | None = None,
) -> None:
    """Write rows; logits are float32, which the digits of predict stand for exactly, probabilities float64.

    Args:
        path: path of the file.
        blocks: rows in blocks, without their heading; an empty block is left out.
        form: format that the rows have: CSV or JSON lines.
        settings: values that the rows were made with, for the file's metadata.
        provenance: whether rows have the columns of provenance.
        part: first line of the file of a part, for the metadata, which seals the file; None for rows that are no part.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = (*COLUMNS, *(PROVENANCE_COLUMNS if provenance else ()))
    kinds = {"logit": pa.float32(), "probability": pa.float64(), "verdict": pa.dictionary(pa.int8(), pa.string())}
    metadata = {_METADATA_KEY: json.dumps(settings, sort_keys=True).encode()} | ({} if part is None else {_PART: part})
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names], metadata=metadata)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for block in blocks:
            rows = list(_read_rows(block, form, names))
            if rows:
                columns = {name: [row[index] for row in rows] for index, name in enumerate(names)}
                writer.write_table(pa.table(columns, schema=schema))
        if part is not None:
            writer.add_key_value_metadata({_SEAL_KEY: _BLANK})
    if part is not None:
        with path.open("r+b") as file:
            content = file.read()
            file.seek(content.rindex(_SEAL + _BLANK) + len(_SEAL))
            file.write(hashlib.sha256(content).hexdigest().encode())


def check_parquet(place: Place) -> None:
    """Make sure that a file that may be lost is one that ``write_parquet`` wrote, by its metadata.

    Args:
        place: path or URL of the file; there may be none.

    Raises:
        InputError: the file is another.
        StoreError: the store refuses, or is out of reach.
    """
    try:
        with place.open("rb") as file:
            is_ours = _METADATA_KEY in _read_metadata(file)
    except FileNotFoundError:
        return
    except OSError:
        is_ours = False
    if not is_ours:
        raise InputError(f"--overwrite: {place} was not written by lfm-deploy; remove it, or choose another name")


def read_part_of_parquet(file: BinaryIO) -> bytes | None:
    """What the metadata of a file says of the part that it is; None where it is none, or not as it was written.

    Args:
        file: file that is open for reading.
    """
    content = file.read()
    start = content.rfind(_SEAL) + len(_SEAL)
    blank = content[:start] + _BLANK + content[start + len(_BLANK) :]
    if content[start : start + len(_BLANK)] != hashlib.sha256(blank).hexdigest().encode():
        return None
    return _read_metadata(file).get(_PART)


def read_parquet(file: BinaryIO) -> Iterator[Prediction]:
    """Rows of a file that ``write_parquet`` wrote.

    Args:
        file: file that is open for reading.

    Raises:
        ValueError: the file is damaged, or has other columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
        for batch in table.to_batches(_ROWS_A_BATCH):
            for values in batch.to_pylist():
                yield _as_prediction(values)
    except (OSError, KeyError, TypeError, pa.ArrowException) as error:
        raise ValueError(first_line(error)) from None


def _read_metadata(file: BinaryIO) -> dict[bytes, bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(file).metadata or {}
    except (OSError, pa.ArrowException):
        return {}


def _as_prediction(values: dict[str, Any]) -> Prediction:
    notes = values["notes"]
    has_origin = PROVENANCE_COLUMNS[0] in values
    return Prediction(
        index=0,
        path=values["path"],
        logit=values["logit"],
        probability=values["probability"],
        verdict=values["verdict"],
        error=values["error"],
        notes=tuple(notes.split(_NOTES_BETWEEN)) if notes else (),
        provenance=Provenance(**{name: values[name] for name in PROVENANCE_COLUMNS}) if has_origin else None,
    )


def _read_rows(block: bytes, form: RowFormat, names: tuple[str, ...]) -> Iterator[list[Any]]:
    """Values in the order of the columns; names that are no UTF-8, which Parquet's texts must be, are escaped."""
    if form is RowFormat.JSONL:
        for line in block.splitlines():
            values = json.loads(line)
            values["notes"] = _NOTES_BETWEEN.join(values["notes"])
            yield [_clean(values[name]) for name in names]
        return
    text = io.StringIO(block.decode("utf-8", "backslashreplace"), newline="")
    for cells in csv.reader(text):
        row = dict(zip(names, cells, strict=True))
        yield [_take(name, row[name]) for name in names]


def _take(name: str, cell: str) -> Any:
    """A cell of CSV, where nothing and an empty text look alike."""
    if name in ("logit", "probability"):
        return float(cell) if cell else None
    return cell if cell or name in ("path", "notes") else None


def _clean(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
