"""The plots of a page: which figures there are, and which scores each is drawn from."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from calib.findings_schema import DescribedFindings
from lfm_deploy.report.drawings import Drawings
from lfm_deploy.report.engine_schema import TimedEngine
from lfm_deploy.report.findings import engines_compared, engines_that_ran
from lfm_deploy.report.schema import Report, ScoreRow


class QuantisedPlots(TypedDict):
    """What the page shows of one INT8 graph.

    Attributes:
        findings: findings of the search for INT8 layers.
        work: share of the multiply-adds of each layer, in [0, 1].
        sensitivity: plot of what each layer does to decisions.
        activations: plot of the tensors; None where their histograms are not known.
    """

    findings: DescribedFindings
    work: dict[str, float]
    sensitivity: Markup
    activations: Markup | None


class ScoreRows:
    """The logits of a report, by engine and suite.

    Pictures are matched by suite, test set and path, so that an engine that could not judge one still lines up.
    """

    def __init__(self, rows: Sequence[ScoreRow]) -> None:
        """Sort rows of scores, from ``scores_as_rows``."""
        found: dict[tuple[str, str], list[ScoreRow]] = {}
        for row in rows:
            found.setdefault((row["engine"], row["suite"]), []).append(row)
        self._rows = found

    def of(self, engine: str, suite: str) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.str_]]:
        """Logits, labels and test sets of one engine's pictures, ``(N,)`` each; N may be 0."""
        rows = self._rows.get((engine, suite), [])
        return (
            np.array([row["logit"] for row in rows], dtype=np.float64),
            np.array([row["label"] for row in rows], dtype=np.int64),
            np.array([row["set"] for row in rows], dtype=np.str_),
        )

    def pairs(self, reference: str, engine: str) -> tuple[list[float], list[float], list[int]]:
        """Logits of the reference and of an engine, and labels, over all suites."""
        x: list[float] = []
        y: list[float] = []
        labels: list[int] = []
        for (name, suite), rows in self._rows.items():
            if name != engine:
                continue
            theirs = {(row["set"], row["path"]): row["logit"] for row in self._rows.get((reference, suite), [])}
            for row in rows:
                if (other := theirs.get((row["set"], row["path"]))) is not None:
                    x.append(other)
                    y.append(row["logit"])
                    labels.append(row["label"])
        return x, y, labels


def draw_curves(report: Report, scores: ScoreRows, drawings: Drawings) -> list[Markup]:
    """For every suite, precision over recall of all engines, and of the reference on each test set."""
    drawn = []
    for suite in (suite["name"] for suite in report["suites"]):
        engines = [(engine["name"], *scores.of(engine["name"], suite)[:2]) for engine in engines_that_ran(report)]
        reference, labels, sets = scores.of(report["engines"][0]["name"], suite)
        names = list(dict.fromkeys(sets.tolist()))
        parts = [(name, reference[sets == name], labels[sets == name]) for name in names]
        for title, series in ((f"{suite}: every engine, all pictures", engines), (f"{suite}: the checkpoint", parts)):
            curves = [(name, found, of) for name, found, of in series if _has_curve(found, of)]
            if len(curves) > (series is parts):
                drawn.append(drawings.draw("curves.plot_curves", curves, title=title))
    return drawn


def draw_histograms(report: Report, scores: ScoreRows, drawings: Drawings) -> dict[str, list[Markup]]:
    """By suite, where the logits of every engine lie."""
    return {
        suite["name"]: [
            drawings.draw(
                "histograms.plot_histogram",
                *scores.of(engine["name"], suite["name"])[:2],
                0.0 if engine["kind"] == "detector" else report["threshold"],  # its own is subtracted already
                title=engine["name"],
                scope=suite["name"],
            )
            for engine in engines_that_ran(report)
        ]
        for suite in report["suites"]
    }


def draw_scatters(report: Report, scores: ScoreRows, drawings: Drawings) -> list[Markup]:
    """For every engine that was compared, its logits over all suites against the reference's."""
    reference = report["engines"][0]["name"]
    return [
        drawings.draw(
            "scatter.plot_scatter",
            *scores.pairs(reference, engine["name"]),
            report["threshold"],
            name=engine["name"],
            title=f"{engine['name']} against {reference}",
        )
        for engine in engines_compared(report)
    ]


def draw_speeds(report: Report, drawings: Drawings) -> list[Markup]:
    """Throughput and latency over the batch size, of the engines that were timed."""
    timed: list[TimedEngine] = [
        {"name": engine["name"], "speeds": engine["speeds"]} for engine in engines_that_ran(report) if engine["speeds"]
    ]
    if not timed:
        return []
    titles = {"fps": "Throughput over the batch size", "latency_ms": "Latency over the batch size"}
    return [drawings.draw("speed.plot_speeds", timed, key, title=title) for key, title in titles.items()]


def draw_envelope(report: Report, drawings: Drawings) -> Markup | None:
    """Decisions under each condition, where the envelope was measured."""
    if report["envelope"] is None:
        return None
    conditions = report["envelope"]["conditions"]
    return drawings.draw("envelope.plot_envelope", conditions, title="Decisions after each treatment")


def draw_quantised(findings: DescribedFindings, drawings: Drawings) -> QuantisedPlots:
    """How an INT8 graph came about: its findings, the share of work of each layer, and plots."""
    tensors, recipe, layers = findings["tensors"], findings["recipe"], findings["layers"]
    total = sum(layer["multiply_adds"] for layer in layers.values())
    allowed = findings["budget"]["flips"]
    title = f"Activations of INT8 for {recipe}"
    return {
        "findings": findings,
        "work": {name: layer["multiply_adds"] / total for name, layer in layers.items()},
        "sensitivity": drawings.draw(
            "quantised.plot_sensitivity", layers, allowed, title=f"Layers of INT8 for {recipe}"
        ),
        "activations": drawings.draw("quantised.plot_activations", tensors, title=title) if tensors else None,
    }


def _has_curve(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> bool:
    return len(set(labels.tolist())) == 2 and bool(np.isfinite(logits).all())
