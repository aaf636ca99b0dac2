"""A list as a suite: a CSV file with a line for each picture."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lfm_deploy.contract import SizePolicy
from lfm_deploy.errors import SuiteError
from lfm_deploy.pictures.folders import is_folder
from lfm_deploy.storage.text import decode_text
from lfm_deploy.suites.labelled import LabelledImage, Suite, TestSet, require_a_complete_set

LIST_SUFFIX = ".csv"
_COLUMNS = ("path", "label", "set", "category")
_NEEDED = ("path", "label")
_LABELS = {"real": 0, "0": 0, "fake": 1, "1": 1}
_HEADER = "the header is path,label and optionally set and category"


def load_list(path: Path, size: SizePolicy, *, both_classes: bool = True) -> Suite:
    """A suite from a CSV file in UTF-8 with the header ``path,label[,set[,category]]``.

    Columns may stand in any order. A relative path starts at the folder of the list; a label is real or fake, or 0
    or 1; without a column ``set`` all pictures are one test set, named after the file.

    Args:
        path: path of the list.
        size: size policy of the suite.
        both_classes: whether a test set needs pictures of both classes.

    Raises:
        SuiteError: a line is bad, or the file cannot be read; the message has the first bad line, and how many more
            there are.
    """
    rows, columns = _read_rows(path)
    sets: dict[str, list[LabelledImage]] = {}
    seen: dict[str, int] = {}
    complaints: list[str] = []
    for line, fields in rows:
        try:
            name, image = _read_row(path, columns, fields)
            key = os.path.normpath(image.path.absolute())
            if key in seen:
                raise _BadLineError(f"{image.path} stands in line {seen[key]} already; remove one")
            seen[key] = line
            sets.setdefault(name, []).append(image)
        except _BadLineError as error:
            complaints.append(f"line {line}: {error}")
    if complaints:
        others = len(complaints) - 1
        more = f" ({others} more bad line{'' if others == 1 else 's'})" if others else ""
        raise SuiteError(f"{path}: {complaints[0]}{more}")
    parts = tuple(TestSet(name, tuple(images)) for name, images in sets.items())
    if not parts:
        raise SuiteError(f"{path}: no picture in it; give each a line below the header")
    if both_classes:
        require_a_complete_set(parts, path, "give real and fake pictures the same set")
    return Suite(path.stem, size, parts)


class _BadLineError(Exception):
    """What is wrong with a line, and what to do."""


def _read_rows(path: Path) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """Fields of every line with its number, and the header."""
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    try:
        rows = list(_numbered(reader))
    except csv.Error as error:
        raise SuiteError(f"{path}: line {reader.line_num}: not CSV ({error}); mend the line") from None
    if not rows:
        raise SuiteError(f"{path}: the list is empty; {_HEADER}")
    (line, header), *rest = rows
    columns = [name.strip().lower() for name in header]
    missing = [name for name in _NEEDED if name not in columns]
    unknown = [name for name in columns if name not in _COLUMNS]
    twice = [name for name in _COLUMNS if columns.count(name) > 1]
    for names, what in ((missing, "missing column"), (unknown, "unknown column"), (twice, "column given twice:")):
        if names:
            raise SuiteError(f"{path}: line {line}: {what} {', '.join(map(repr, names))}; {_HEADER}")
    return rest, columns


def _numbered(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Lines that are not blank; a field in quotes may go over several, so the first counts."""
    before = 0
    for fields in reader:
        if any(field.strip() for field in fields):
            yield before + 1, fields
        before = reader.line_num


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read: {error.strerror}; give a list, a folder or a suite") from None
    try:
        return decode_text(content)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SuiteError(f"{path}: line {line}: not {error.encoding.upper()}; save the list as UTF-8") from None


def _read_row(path: Path, columns: Sequence[str], fields: Sequence[str]) -> tuple[str, LabelledImage]:
    """Name of the test set, and the picture."""
    if len(fields) != len(columns):
        raise _BadLineError(
            f"{len(fields)} fields, expected {len(columns)} as in the header; put names with commas into quotes"
        )
    values = dict(zip(columns, fields, strict=True))
    label = _LABELS.get(values["label"].strip().lower())
    if label is None:
        raise _BadLineError(f"label {values['label']!r}; expected real or fake, or 0 or 1")
    name = values.get("set", path.stem).strip()
    if not name:
        raise _BadLineError("no test set; name one in every line, or leave the column out")
    if not values["path"]:
        raise _BadLineError("no path; name the picture's file")
    picture = path.parent / values["path"]
    try:
        found = picture.is_file()
    except OSError as error:  # a folder without permission, a name that is too long
        raise _BadLineError(f"{picture}: {error.strerror}; mend the path, or leave the picture out") from None
    if not found:
        what = "is a folder" if is_folder(picture) else "no such file"
        raise _BadLineError(f"{picture}: {what}; paths start at the folder of the list")
    return name, LabelledImage(picture, label, values.get("category", "").strip() or None)
