"""What the LFM paper prints about the suites, to stand beside one's own figures.

The facts are in ``published.csv``, from the paper's tables: VIII (ForenSynths), 1 (GANGen-Detection), IX
(DiffusionForensics), X (UniversalFakeDetect), 2 (Diffusion1kStep), and 3, which has the means of all five and the mean
over all 38 sets. All figures are in per cent. Where a figure is not legible there is none, and a note says so.

The paper takes AP over float32 sigmoids, which are exactly 1 above a logit of about 17, so that such pictures tie;
lfm-deploy takes it over logits. ``average_precision_of_sigmoids`` gives the paper's kind.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.metrics.decisions import average_precision
from lfm_deploy.suites import GROUPS, describe_suites

MEAN = "mean"
ALL = "all"
OWN_METHOD = "LFM"
_SUMMARY = "3"

Figures = Mapping[str, float | None]


class PublishedRowValues(TypedDict):
    """One method of a published table, as JSON has it.

    Attributes:
        method: name of the method in the paper.
        acc: accuracy in per cent, by column; None where the paper has no legible figure.
        ap: average precision in per cent, by column; None where the paper has no legible figure.
        notes: sentences about the row.
    """

    method: str
    acc: dict[str, float | None]
    ap: dict[str, float | None]
    notes: list[str]


class PublishedValues(TypedDict):
    """A published table, as JSON has it.

    Attributes:
        tables: numbers of the paper's tables that it was put together from.
        sets: names of the columns: test sets, then ``"mean"``; of a group, its suites.
        rows: methods; the published LFM is the last.
    """

    tables: list[str]
    sets: list[str]
    rows: list[PublishedRowValues]


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One method.

    Attributes:
        method: name of the method in the paper.
        acc, ap: accuracy and average precision in per cent, by column; None where the paper has no legible figure.
        notes: remarks on the row, each once.
    """

    method: str
    acc: Figures
    ap: Figures
    notes: tuple[str, ...] = ()

    def as_dict(self) -> PublishedRowValues:
        """Plain values for JSON."""
        return {"method": self.method, "acc": dict(self.acc), "ap": dict(self.ap), "notes": list(self.notes)}


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """The published figures for a suite or a group of suites.

    Attributes:
        suite: name of the suite or group.
        tables: numbers of the paper's tables that it was put together from.
        columns: the suite's test sets in its order, then ``"mean"``; for a group its suites, and for the group ``all``
            also ``"all"``, the mean over all 38 sets.
        rows: one a method; the published LFM is the last.
    """

    suite: str
    tables: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[PublishedRow, ...]

    def as_dict(self) -> PublishedValues:
        """Plain values for JSON: tables, sets (the columns) and rows."""
        return {
            "tables": list(self.tables),
            "sets": list(self.columns),
            "rows": [row.as_dict() for row in self.rows],
        }


def published_table(suite_name: str) -> PublishedTable | None:
    """What the paper prints for a suite, or for a group of suites (``gan``, ``diffusion``, ``all``).

    A suite's own table has its sets and, where it is legible, the mean; the other means come from Table 3, which also
    has methods that the suite's table lacks. Notes say which, and where the two tables print different means.

    Args:
        suite_name: name of a suite or of a group.

    Returns:
        None where the paper has no such suite.
    """
    if suite_name in GROUPS:
        return _group_table(suite_name)
    for spec in describe_suites():
        if spec.name == suite_name:
            return _suite_table(spec.name, (*spec.sets, MEAN))
    return None


def average_precision_of_sigmoids(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Average precision of the fake class as the paper takes it: over float32 sigmoids, with the ties that they make.

    Only to stand beside published figures; elsewhere take ``average_precision`` over logits.

    Args:
        logits: ``(N,)``, finite.
        labels: ``(N,)``; 0 is real, 1 is fake.

    Returns:
        A fraction in [0, 1].

    Raises:
        MetricError: the lengths differ, a logit is not finite, or there is no fake to find.
    """
    with np.errstate(over="ignore"):  # far below 0 the exponential is infinite, and the sigmoid 0
        sigmoids = np.float32(1) / (np.float32(1) + np.exp(-logits.astype(np.float32)))
    return average_precision(sigmoids, labels)


@dataclass(slots=True)
class _Method:
    """What the tables say of one method, while a row is put together."""

    acc: dict[str, float] = field(default_factory=dict)
    ap: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def finish(self, method: str, columns: Iterable[str]) -> PublishedRow:
        columns = tuple(columns)
        return PublishedRow(
            method,
            {column: self.acc.get(column) for column in columns},
            {column: self.ap.get(column) for column in columns},
            tuple(dict.fromkeys(self.notes)),
        )


@cache
def _read_csv() -> tuple[dict[str, str], ...]:
    text = files("lfm_deploy.suites").joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))


def _suite_table(suite: str, columns: tuple[str, ...]) -> PublishedTable:
    entries = [entry for entry in _read_csv() if entry["suite"] == suite]
    # The suite's own table first, so that its means stand and Table 3 fills what it lacks.
    entries.sort(key=lambda entry: entry["table"] == _SUMMARY)
    methods: dict[str, _Method] = {}
    for entry in entries:
        method = methods.setdefault(entry["method"], _Method())
        has_own_row = bool(method.acc)
        if entry["note"]:
            method.notes.append(entry["note"])
        acc, ap, column = float(entry["acc"]), float(entry["ap"]), entry["test_set"]
        if column not in method.acc:
            method.acc[column], method.ap[column] = acc, ap
            if has_own_row and entry["table"] == _SUMMARY:
                method.notes.append(f"the mean is that of Table {_SUMMARY}")
        elif (acc, ap) != (method.acc[column], method.ap[column]):
            method.notes.append(f"Table {entry['table']} prints another mean: ACC {acc:.1f}, AP {ap:.1f}")
    tables = tuple(dict.fromkeys(entry["table"] for entry in entries))
    return PublishedTable(suite, tables, columns, _finish_rows(methods, columns))


def _group_table(group: str) -> PublishedTable:
    columns = (*GROUPS[group], ALL) if group == ALL else GROUPS[group]
    methods: dict[str, _Method] = {}
    for entry in _read_csv():
        if entry["table"] == _SUMMARY and entry["suite"] in columns:
            method = methods.setdefault(entry["method"], _Method())
            method.acc[entry["suite"]], method.ap[entry["suite"]] = float(entry["acc"]), float(entry["ap"])
            if entry["note"]:
                method.notes.append(entry["note"])
    return PublishedTable(group, (_SUMMARY,), columns, _finish_rows(methods, columns))


def _finish_rows(methods: Mapping[str, _Method], columns: tuple[str, ...]) -> tuple[PublishedRow, ...]:
    """In the order of the tables, with the published LFM last."""
    names = sorted(methods, key=lambda name: name == OWN_METHOD)
    return tuple(methods[name].finish(name, columns) for name in names)
