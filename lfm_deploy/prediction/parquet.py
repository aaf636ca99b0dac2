"""Rows of predict as a Parquet file, by pyarrow: one row group a block of rows, with the settings in its metadata."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lfm_deploy.errors import missing_library
from lfm_deploy.pictures.provenance import PROVENANCE_COLUMNS
from lfm_deploy.prediction.rows import COLUMNS, RowFormat

PARQUET_SUFFIX = ".parquet"
_METADATA_KEY = b"lfm_deploy"
_NOTES_BETWEEN = "; "


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
    path: Path, blocks: Iterable[bytes], form: RowFormat, settings: Mapping[str, Any], *, provenance: bool
) -> None:
    """Write rows; logits are float32, which the digits of predict stand for exactly, probabilities float64.

    Args:
        path: path of the file.
        blocks: rows in blocks, without their heading; an empty block is left out.
        form: format that the rows have: CSV or JSON lines.
        settings: values that the rows were made with, for the file's metadata.
        provenance: whether rows have the columns of provenance.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = (*COLUMNS, *(PROVENANCE_COLUMNS if provenance else ()))
    kinds = {"logit": pa.float32(), "probability": pa.float64(), "verdict": pa.dictionary(pa.int8(), pa.string())}
    schema = pa.schema(
        [(name, kinds.get(name, pa.string())) for name in names],
        metadata={_METADATA_KEY: json.dumps(settings, sort_keys=True).encode()},
    )
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for block in blocks:
            rows = list(_read_rows(block, form, names))
            if rows:
                columns = {name: [row[index] for row in rows] for index, name in enumerate(names)}
                writer.write_table(pa.table(columns, schema=schema))


def is_our_parquet(path: Path) -> bool:
    """Whether a file is one that ``write_parquet`` wrote, by its metadata.

    Args:
        path: path of the file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return _METADATA_KEY in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        return False


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
