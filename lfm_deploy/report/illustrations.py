"""The plots of a page: which figures there are, and which scores each is drawn from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from lfm_deploy.report.findings import Values, engines_compared, engines_that_ran
from lfm_deploy.report.plots.curves import plot_curves, precision_recall
from lfm_deploy.report.plots.envelope import plot_envelope
from lfm_deploy.report.plots.histograms import plot_histogram
from lfm_deploy.report.plots.quantised import plot_activations, plot_sensitivity
from lfm_deploy.report.plots.scatter import plot_scatter
from lfm_deploy.report.plots.speed import plot_speeds


class Scores:
    """The logits of a report, by engine and suite.

    Pictures are matched by suite, test set and path, so that an engine that could not judge one still lines up.
    """

    def __init__(self, rows: Sequence[Values]) -> None:
        """Sort rows of scores, from ``scores_as_rows``."""
        found: dict[tuple[str, str], list[Values]] = {}
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


def draw_curves(report: Values, scores: Scores) -> list[Markup]:
    """For every suite, precision over recall of all engines, and of the reference on each test set."""
    drawn = []
    for suite in (suite["name"] for suite in report["suites"]):
        engines = [(engine["name"], *scores.of(engine["name"], suite)[:2]) for engine in engines_that_ran(report)]
        reference, labels, sets = scores.of(report["engines"][0]["name"], suite)
        names = list(dict.fromkeys(sets.tolist()))
        parts = [(name, reference[sets == name], labels[sets == name]) for name in names]
        for title, series in ((f"{suite}: every engine, all pictures", engines), (f"{suite}: the checkpoint", parts)):
            curves = [(name, precision_recall(found, of)) for name, found, of in series if _has_curve(found, of)]
            if len(curves) > (series is parts):
                drawn.append(Markup(plot_curves(curves, title=title)))  # noqa: S704  # SVG by matplotlib, which escapes
    return drawn


def draw_histograms(report: Values, scores: Scores) -> dict[str, list[Markup]]:
    """By suite, where the logits of every engine lie."""
    return {
        suite["name"]: [
            Markup(  # noqa: S704
                plot_histogram(
                    *scores.of(engine["name"], suite["name"])[:2],
                    report["threshold"],
                    title=engine["name"],
                    scope=suite["name"],
                )
            )
            for engine in engines_that_ran(report)
        ]
        for suite in report["suites"]
    }


def draw_scatters(report: Values, scores: Scores) -> list[Markup]:
    """For every engine that was compared, its logits over all suites against the reference's."""
    reference = report["engines"][0]["name"]
    return [
        Markup(  # noqa: S704
            plot_scatter(
                *scores.pairs(reference, engine["name"]),
                report["threshold"],
                name=engine["name"],
                title=f"{engine['name']} against {reference}",
            )
        )
        for engine in engines_compared(report)
    ]


def draw_speeds(report: Values) -> list[Markup]:
    """Throughput and latency over the batch size, of the engines that were timed."""
    timed = [engine for engine in engines_that_ran(report) if engine["speeds"]]
    if not timed:
        return []
    titles = {"fps": "Throughput over the batch size", "latency_ms": "Latency over the batch size"}
    return [Markup(plot_speeds(timed, key, title=title)) for key, title in titles.items()]  # noqa: S704


def draw_envelope(report: Values) -> Markup | None:
    """Accuracy under each condition, where the envelope was measured."""
    if report["envelope"] is None:
        return None
    return Markup(plot_envelope(report["envelope"]["conditions"], title="Decisions after each treatment"))  # noqa: S704


def draw_quantised(findings: Mapping[str, Any]) -> dict[str, Any]:
    """How an INT8 graph came about: its findings, the share of work of each layer, and plots."""
    tensors, recipe = findings["tensors"], findings["recipe"]
    total = sum(layer["multiply_adds"] for layer in findings["layers"].values())
    sensitivity = plot_sensitivity(
        findings["layers"], findings["budget"]["flips"], title=f"Layers of INT8 for {recipe}"
    )
    activations = plot_activations(tensors, title=f"Activations of INT8 for {recipe}") if tensors else None
    return {
        "findings": findings,
        "work": {name: layer["multiply_adds"] / total for name, layer in findings["layers"].items()},
        "sensitivity": Markup(sensitivity),  # noqa: S704
        "activations": activations and Markup(activations),  # noqa: S704
    }


def _has_curve(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> bool:
    return len(set(labels.tolist())) == 2 and bool(np.isfinite(logits).all())
