"""One picture's verdict, and how it reads as CSV, as a line of JSON and on a terminal."""

import csv
import io
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from lfm_deploy.pictures.provenance import PROVENANCE_COLUMNS, Provenance
from lfm_deploy.prediction.notes import OUTSIDE

COLUMNS = ("path", "logit", "probability", "verdict", "error", "notes")
_NOTES_BETWEEN = "; "
_COLOURS = {"fake": "31", "real": "34", "uncertain": "35"}  # of a terminal: red and blue, as in pictures of evidence
_VERDICT_WIDTH, _NUMBER_WIDTH = 10, 11


class RowFormat(StrEnum):
    """How rows are written; on their way into a Parquet file they are CSV."""

    TABLE = "table"
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What was found for one picture of a list.

    Attributes:
        index: position in the list, from 0.
        path: path of the picture, ``shard.zip/inner/name.png`` inside a shard.
        logit: logit of the engine, a float32 value; None where the picture could not be judged.
        probability: sigmoid of the logit, in [0, 1]; None where there is no logit.
        verdict: ``"fake"`` where the logit is above the threshold, ``"uncertain"`` where it is within the band below,
            else ``"real"``; None where there is no logit.
        error: reason why the picture could not be judged; None where it could.
        notes: facts of the file, and what it is outside of; see ``lfm_deploy.prediction.notes``.
        provenance: origin that the picture states, no part of the verdict; None where nobody asked.
    """

    index: int
    path: str
    logit: float | None = None
    probability: float | None = None
    verdict: str | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()
    provenance: Provenance | None = None

    @property
    def is_outside(self) -> bool:
        """Whether the picture is outside of what the detector was proved on."""
        return any(note.startswith(OUTSIDE) for note in self.notes)


def judge_logit(
    index: int, path: str, logit: np.float32, threshold: float, *, uncertain_above: float | None = None
) -> Prediction:
    """The verdict on a logit; one that is no number is an error, never a verdict.

    Args:
        index: position in the list, from 0.
        path: path of the picture.
        logit: logit of the engine.
        threshold: logit above which the picture is fake.
        uncertain_above: logit above which, up to the threshold, there is no verdict; None where there is no such band.
    """
    value, edge = float(logit), threshold if uncertain_above is None else uncertain_above
    if not math.isfinite(value):
        return Prediction(index=index, path=path, error=f"the engine's logit is {value}")
    return Prediction(
        index=index,
        path=path,
        logit=value,
        probability=_sigmoid(value),
        verdict="fake" if value > threshold else "uncertain" if value > edge else "real",
    )


def write_header(form: RowFormat, *, colour: bool = False, provenance: bool = False) -> bytes:
    """What stands above the rows, with or without the columns of provenance."""
    if form in (RowFormat.CSV, RowFormat.PARQUET):
        return (",".join([*COLUMNS, *(PROVENANCE_COLUMNS if provenance else ())]) + "\n").encode()
    if form is RowFormat.TABLE:
        line = f"{'verdict':<{_VERDICT_WIDTH}}{'probability':>{_NUMBER_WIDTH}}{'logit':>{_NUMBER_WIDTH}}  picture"
        return (_tinted(line, "1") if colour else line).encode() + b"\n"
    return b""


def write_rows(rows: Iterable[Prediction], form: RowFormat, *, colour: bool = False) -> bytes:
    """Rows as bytes; names of files that are not UTF-8 keep their bytes in CSV and table, and are escaped in JSON."""
    if form is RowFormat.JSONL:
        return b"".join(_as_json(row) for row in rows)
    if form is RowFormat.TABLE:
        return b"".join(_as_line(row, colour) for row in rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        judged = [] if row.logit is None else [_shortest(row.logit), f"{row.probability:.6g}", row.verdict]
        origin = [] if row.provenance is None else [value or "" for value in row.provenance.as_dict().values()]
        notes = _NOTES_BETWEEN.join(row.notes)
        writer.writerow([row.path, *(judged or ["", "", ""]), row.error or "", notes, *map(_printable, origin)])
    return text.getvalue().encode(errors="surrogateescape")


def _as_json(row: Prediction) -> bytes:
    values = {
        "path": row.path,
        "logit": None if row.logit is None else float(_shortest(row.logit)),
        "probability": None if row.probability is None else float(f"{row.probability:.6g}"),
        "verdict": row.verdict,
        "error": row.error,
        "notes": row.notes,
    } | ({} if row.provenance is None else row.provenance.as_dict())
    try:
        return json.dumps(values, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(values, allow_nan=False).encode() + b"\n"


def _as_line(row: Prediction, colour: bool) -> bytes:
    path = _printable(row.path)
    if row.logit is None or row.verdict is None:
        line = f"{'-':<{_VERDICT_WIDTH}}{'':>{2 * _NUMBER_WIDTH}}  {path}: {_printable(row.error or '')}"
        line = _tinted(line, "33") if colour else line
    else:
        verdict = f"{row.verdict:<{_VERDICT_WIDTH}}"
        verdict = _tinted(verdict, _COLOURS[row.verdict]) if colour else verdict
        line = f"{verdict}{row.probability:>{_NUMBER_WIDTH}.4f}{row.logit:>{_NUMBER_WIDTH}.3f}  {path}"
    said = [*row.notes]
    if row.provenance is not None:
        said += [f"{name}: {value}" for name, value in row.provenance.as_dict().items() if value is not None]
    if said:
        noted = f"  [{_printable(_NOTES_BETWEEN.join(said))}]"
        line += _tinted(noted, "33" if row.is_outside else "2") if colour else noted
    return line.encode(errors="surrogateescape") + b"\n"


def _shortest(logit: float) -> str:
    """The shortest digits that stand for this float32 value alone."""
    return str(np.float32(logit))


def _printable(text: str) -> str:
    """A name without line ends and other signs that would move a terminal's cursor."""
    return "".join(sign if sign.isprintable() or "\udc80" <= sign <= "\udcff" else "?" for sign in text)


def _tinted(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"


def _sigmoid(logit: float) -> float:
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    grown = math.exp(max(logit, -700.0))  # below that it would be 0 anyway
    return grown / (1 + grown)
