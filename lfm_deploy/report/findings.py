"""What every view asks of a report: which engines ran, which decisions flipped, what the published figures leave."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lfm_deploy.report.figures import value_of

Values = Mapping[str, Any]
OUTCOMES = {"passed": "Passed", "failed": "Failed", "undecided": "Undecided", "nothing": "Nothing verified"}


def engines_that_ran(report: Values) -> list[dict[str, Any]]:
    """The entries of ``engines`` that were scored, the reference first."""
    return [engine for engine in report["engines"] if engine["not_run"] is None]


def engines_compared(report: Values) -> list[dict[str, Any]]:
    """Those that were held against the reference."""
    return [engine for engine in engines_that_ran(report) if engine["kind"] == "engine"]


def reasons_not_run(report: Values) -> list[tuple[str, list[str]]]:
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


def suite_of(engine: Values, suite: str) -> dict[str, Any]:
    """What an engine that ran did on a suite."""
    found: dict[str, Any] = next(result for result in engine["suites"] if result["suite"] == suite)
    return found


def outcome_of(engine: Values, suite: str | None = None) -> str:
    """``holds``, ``fails`` or ``undecided`` over an engine's gates, or the word for an engine that has none.

    Args:
        engine: an entry of ``engines``.
        suite: gates of this suite alone; None is all.
    """
    if engine["not_run"] is not None:
        return "not run"
    if engine["kind"] != "engine":
        return str(engine["kind"])
    found = {gate["outcome"] for gate in engine["gates"] if suite in (None, gate["suite"])}
    return next((outcome for outcome in ("fails", "undecided") if outcome in found), "holds")


def gates_to_look_at(report: Values) -> list[tuple[str, dict[str, Any]]]:
    """Engine and gate, of gates that fail, then of those that are undecided."""
    found = [(engine["name"], gate) for engine in report["engines"] for gate in engine["gates"]]
    return [pair for outcome in ("fails", "undecided") for pair in found if pair[1]["outcome"] == outcome]


def flipped_pictures(report: Values) -> list[dict[str, Any]]:
    """Every picture whose decision an engine changes, once, the widest margin first.

    Returns:
        ``suite``, ``set``, ``path``, ``label``, ``reference``, ``margin``, and ``logits`` by engine.
    """
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for engine in engines_compared(report):
        for result in engine["suites"]:
            for flip in result["against"]["flipped"]:
                key = (result["suite"], flip["set"], flip["path"])
                known = {name: flip[name] for name in ("set", "path", "label", "reference", "margin")}
                picture = found.setdefault(key, {"suite": result["suite"], **known, "logits": {}})
                picture["logits"][engine["name"]] = flip["logit"]
    return sorted(found.values(), key=lambda picture: (-abs(picture["margin"]), picture["path"]))


def worst_errors(report: Values, rows: Sequence[Values], count: int) -> dict[int, list[dict[str, Any]]]:
    """What the reference gets most wrong: real pictures far above the threshold (0), fakes far below it (1).

    Args:
        report: from ``make_report``.
        rows: of scores.
        count: most of each.

    Returns:
        By label, the worst first: rows of the reference.
    """
    reference, threshold = report["engines"][0]["name"], report["threshold"]
    mine = [row for row in rows if row["engine"] == reference]
    worst: dict[int, list[dict[str, Any]]] = {}
    for label, sign in ((0, 1.0), (1, -1.0)):
        wrong = [
            dict(row)
            for row in mine
            if row["label"] == label and (row["logit"] > threshold if label == 0 else row["logit"] <= threshold)
        ]
        worst[label] = sorted(wrong, key=lambda row: (-sign * row["logit"], row["path"]))[:count]
    return worst


def published_tables(report: Values) -> dict[str, Values]:
    """The paper's tables that belong to what was judged, by suite; last that of a group, by its name."""
    tables = {suite["name"]: suite["published"] for suite in report["suites"] if suite["published"] is not None}
    return tables if report["group"] is None else tables | {report["group"]["name"]: report["group"]["published"]}


def published_beside(
    report: Values, name: str, kinds: Sequence[str] = ("reference", "engine", "detector")
) -> Iterator[tuple[str, Values | None, Values]]:
    """The published methods of a table, and yours under that of the published LFM.

    Args:
        report: from ``make_report``.
        name: of a suite or group in ``published_tables``.
        kinds: of your engines to list.

    Yields:
        Name; None, or the difference to the published LFM; and ``acc`` and ``ap``, each in per cent by column, None
        where a figure is missing.
    """
    table = published_tables(report)[name]
    columns, rows = table["sets"], table["rows"]
    is_group = name not in {suite["name"] for suite in report["suites"]}
    for row in sorted(rows, key=lambda row: row["method"] == "LFM"):  # the published LFM last, yours under it
        yield row["method"], None, {key: {column: row[key].get(column) for column in columns} for key in ("acc", "ap")}
    theirs = next((row for row in rows if row["method"] == "LFM"), None)
    for engine in engines_that_ran(report):
        if engine["kind"] not in kinds:
            continue
        mine = group_figures(engine, columns) if is_group else own_figures(suite_of(engine, name), columns)
        change = None if theirs is None else {key: _subtract(mine[key], theirs[key]) for key in ("acc", "ap")}
        yield engine["name"], change, mine


def group_figures(engine: Values, columns: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """ACC and AP of an engine on the suites of a group: the mean of each, and in ``"all"`` that over all test sets."""
    suites = {result["suite"]: result for result in engine["suites"]}
    found: dict[str, dict[str, float | None]] = {}
    for key in ("acc", "ap"):
        figures = {name: value_of(suites[name]["mean"][key]) for name in columns if name in suites}
        of_sets = [value_of(part[key]) for result in engine["suites"] for part in result["sets"]]
        known = [value for value in of_sets if value is not None]
        whole = sum(known) / len(known) if len(known) == len(of_sets) else None
        found[key] = {name: figures.get(name, whole if name == "all" else None) for name in columns}
    return found


def own_figures(result: Values, columns: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """ACC and AP of an engine in the columns of a published table.

    The mean counts only where it is over the same test sets as the published one.
    """
    sets = {part["set"]: part for part in result["sets"]}
    whole = set(columns) - {"mean"} <= set(sets)
    found: dict[str, dict[str, float | None]] = {}
    for key in ("acc", "ap"):
        figures = {name: value_of(sets[name][key]) if name in sets else None for name in columns}
        if "mean" in columns:
            figures["mean"] = value_of(result["mean"][key]) if whole else None
        found[key] = figures
    return found


def _subtract(mine: Mapping[str, float | None], theirs: Mapping[str, float | None]) -> dict[str, float | None]:
    return {
        name: None if value is None or (other := theirs.get(name)) is None else value - other
        for name, value in mine.items()
    }
