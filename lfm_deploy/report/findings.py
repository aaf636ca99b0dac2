"""What every view asks of a report: which engines ran, which decisions flipped, what the published figures leave."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict

from lfm_deploy.report.engine_schema import (
    AgainstValues,
    EngineValues,
    GateValues,
    PixelValues,
    ShareName,
    SuiteResultValues,
)
from lfm_deploy.report.figures import value_of
from lfm_deploy.report.schema import Report, ScoreRow
from lfm_deploy.suites.published import PublishedValues

OUTCOMES = {"passed": "Passed", "failed": "Failed", "undecided": "Undecided", "nothing": "Nothing verified"}
COMPARED = ("engine", "decoder")
"""Kinds of rows that are held against the reference, and have gates."""


class ColumnFigures(TypedDict):
    """Figures of one engine in the columns of a published table, each None where it is missing.

    Attributes:
        acc: accuracy by column, in per cent; of a difference, in percentage points.
        ap: average precision by column, in per cent; of a difference, in percentage points.
    """

    acc: dict[str, float | None]
    ap: dict[str, float | None]


class ChangedPicture(TypedDict):
    """A picture whose decision some engine changes.

    Attributes:
        suite: name of its suite.
        set: name of its test set.
        path: file of the picture.
        label: label of the picture: 0 is real, 1 is fake.
        reference: logit of the reference.
        margin: logit of the reference minus the threshold.
        logits: logits of the engines that change it, by engine; None where one is no number.
    """

    suite: str
    set: str
    path: str
    label: int
    reference: float
    margin: float
    logits: dict[str, float | None]


def engines_that_ran(report: Report) -> list[EngineValues]:
    """The entries of ``engines`` that were scored, the reference first."""
    return [engine for engine in report["engines"] if engine["not_run"] is None]


def engines_compared(report: Report) -> list[EngineValues]:
    """Those that were held against the reference."""
    return [engine for engine in engines_that_ran(report) if engine["kind"] in COMPARED]


def reasons_not_run(report: Report) -> list[tuple[str, list[str]]]:
    """Each reason once, with the engines that it kept from running."""
    reasons: dict[str, list[str]] = {}
    for engine in report["engines"]:
        if engine["not_run"] is not None:
            quantisation = engine["quantisation"]
            outside = quantisation is not None and not quantisation["within_budget"]
            reasons.setdefault(engine["not_run"], []).append(
                engine["name"] + (" (built outside its budget)" if outside else "")
            )
    return list(reasons.items())


def suite_of(engine: EngineValues, suite: str) -> SuiteResultValues:
    """What an engine that ran did on a suite."""
    return next(result for result in engine["suites"] if result["suite"] == suite)


def comparison_of(engine: EngineValues, suite: str) -> AgainstValues:
    """How an engine that was held against the reference compares with it on a suite."""
    return dict(comparisons(engine))[suite]


def comparisons(engine: EngineValues) -> list[tuple[str, AgainstValues]]:
    """Suite and comparison with the reference, for every suite that an engine was held against it on."""
    return [(result["suite"], result["against"]) for result in engine["suites"] if result["against"] is not None]


def outcome_of(engine: EngineValues, suite: str | None = None) -> str:
    """``holds``, ``fails`` or ``undecided`` over an engine's gates, or the word for an engine that has none.

    Args:
        engine: an entry of ``engines``.
        suite: gates of this suite alone; None is all.
    """
    if engine["not_run"] is not None:
        return "not run"
    if engine["kind"] not in COMPARED:
        return engine["kind"]
    found = {gate["outcome"] for gate in engine["gates"] if suite in (None, gate["suite"])}
    return next((outcome for outcome in ("fails", "undecided") if outcome in found), "holds")


def decoders_in_words(report: Report) -> list[str]:
    """A line for each decoder and suite: whether its pixels are Pillow's, and how far its logits are from those."""
    return [
        f"{engine['name']}, {found['suite']}: {_pixels_in_words(found, comparison_of(engine, found['suite']))}"
        for engine in report["engines"]
        for found in engine["pixels"]
    ]


def _pixels_in_words(found: PixelValues, against: AgainstValues) -> str:
    beside = f"; {found['otherwise']} pictures are read or refused otherwise" if found["otherwise"] else ""
    beside += f"; its self-test fails on {', '.join(found['samples'])}" if found["samples"] else ""
    if not found["differing"]:
        return f"the pixels of all {found['pictures']:,} pictures are Pillow's{beside}"
    mean = against["logit_error"]["mean"]
    moved = "-" if mean is None else f"{mean:.2g}"
    return (
        f"{found['differing']:,} of {found['pictures']:,} pictures have other pixels than Pillow's, "
        f"{found['share']:.3g} % of all values, by {found['largest']} at most; "
        f"mean |Δlogit| {moved}, {against['flips']} flips{beside}"
    )


def gates_to_look_at(report: Report) -> list[tuple[str, GateValues]]:
    """Engine and gate, of gates that fail, then of those that are undecided."""
    found = [(engine["name"], gate) for engine in report["engines"] for gate in engine["gates"]]
    return [pair for outcome in ("fails", "undecided") for pair in found if pair[1]["outcome"] == outcome]


def flipped_pictures(report: Report) -> list[ChangedPicture]:
    """Every picture whose decision an engine changes, once, the widest margin first."""
    found: dict[tuple[str, str, str], ChangedPicture] = {}
    for engine in engines_compared(report):
        for suite, against in comparisons(engine):
            for flip in against["flipped"]:
                picture = found.setdefault(
                    (suite, flip["set"], flip["path"]),
                    {
                        "suite": suite,
                        "set": flip["set"],
                        "path": flip["path"],
                        "label": flip["label"],
                        "reference": flip["reference"],
                        "margin": flip["margin"],
                        "logits": {},
                    },
                )
                picture["logits"][engine["name"]] = flip["logit"]
    return sorted(found.values(), key=lambda picture: (-abs(picture["margin"]), picture["path"]))


def worst_errors(report: Report, rows: Sequence[ScoreRow], count: int) -> dict[int, list[ScoreRow]]:
    """What the reference gets most wrong: real pictures far above the threshold (0), fakes far below it (1).

    Args:
        report: report from ``make_report``.
        rows: rows of scores, from ``scores_as_rows``.
        count: number of pictures of each kind at most.

    Returns:
        By label, the worst first: rows of the reference.
    """
    reference, threshold = report["engines"][0]["name"], report["threshold"]
    mine = [row for row in rows if row["engine"] == reference]
    worst: dict[int, list[ScoreRow]] = {}
    for label, sign in ((0, 1.0), (1, -1.0)):
        wrong = [
            row
            for row in mine
            if row["label"] == label and (row["logit"] > threshold if label == 0 else row["logit"] <= threshold)
        ]
        worst[label] = sorted(wrong, key=lambda row: (-sign * row["logit"], row["path"]))[:count]
    return worst


def published_tables(report: Report) -> dict[str, PublishedValues]:
    """The paper's tables that belong to what was judged, by suite; last that of a group, by its name."""
    tables = {suite["name"]: suite["published"] for suite in report["suites"] if suite["published"] is not None}
    return tables if report["group"] is None else tables | {report["group"]["name"]: report["group"]["published"]}


def published_beside(
    report: Report, name: str, kinds: Sequence[str] = ("reference", "engine", "detector")
) -> Iterator[tuple[str, ColumnFigures | None, ColumnFigures]]:
    """The published methods of a table, and yours under that of the published LFM.

    Args:
        report: report from ``make_report``.
        name: name of a suite or group in ``published_tables``.
        kinds: kinds of one's own engines to list.

    Yields:
        Name of the method or engine; None, or the difference to the published LFM; and its figures.
    """
    table = published_tables(report)[name]
    columns, rows = table["sets"], table["rows"]
    is_group = name not in {suite["name"] for suite in report["suites"]}
    for row in sorted(rows, key=lambda row: row["method"] == "LFM"):  # the published LFM last, yours under it
        acc, ap = ({column: figures.get(column) for column in columns} for figures in (row["acc"], row["ap"]))
        yield row["method"], None, {"acc": acc, "ap": ap}
    theirs = next((row for row in rows if row["method"] == "LFM"), None)
    for engine in engines_that_ran(report):
        if engine["kind"] not in kinds:
            continue
        mine = group_figures(engine, columns) if is_group else own_figures(suite_of(engine, name), columns)
        change: ColumnFigures | None = None
        if theirs is not None:
            change = {"acc": _subtract(mine["acc"], theirs["acc"]), "ap": _subtract(mine["ap"], theirs["ap"])}
        yield engine["name"], change, mine


def group_figures(engine: EngineValues, columns: Sequence[str]) -> ColumnFigures:
    """ACC and AP of an engine on the suites of a group: the mean of each, and in ``"all"`` that over all test sets."""
    return {"acc": _group_shares(engine, columns, "acc"), "ap": _group_shares(engine, columns, "ap")}


def own_figures(result: SuiteResultValues, columns: Sequence[str]) -> ColumnFigures:
    """ACC and AP of an engine in the columns of a published table.

    The mean counts only where it is over the same test sets as the published one.
    """
    return {"acc": _own_shares(result, columns, "acc"), "ap": _own_shares(result, columns, "ap")}


def _group_shares(engine: EngineValues, columns: Sequence[str], key: ShareName) -> dict[str, float | None]:
    suites = {result["suite"]: result for result in engine["suites"]}
    figures = {name: value_of(suites[name]["mean"][key]) for name in columns if name in suites}
    of_sets = [value_of(part[key]) for result in engine["suites"] for part in result["sets"]]
    known = [value for value in of_sets if value is not None]
    whole = sum(known) / len(known) if len(known) == len(of_sets) else None
    return {name: figures.get(name, whole if name == "all" else None) for name in columns}


def _own_shares(result: SuiteResultValues, columns: Sequence[str], key: ShareName) -> dict[str, float | None]:
    sets = {part["set"]: part for part in result["sets"]}
    figures = {name: value_of(sets[name][key]) if name in sets else None for name in columns}
    if "mean" in columns:
        whole = set(columns) - {"mean"} <= set(sets)
        figures["mean"] = value_of(result["mean"][key]) if whole else None
    return figures


def _subtract(mine: Mapping[str, float | None], theirs: Mapping[str, float | None]) -> dict[str, float | None]:
    return {
        name: None if value is None or (other := theirs.get(name)) is None else value - other
        for name, value in mine.items()
    }
