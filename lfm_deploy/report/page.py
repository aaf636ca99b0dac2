"""The report as one HTML file that needs nothing else: a view of the JSON and of the scores."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lfm_deploy.report.plots import plot_activations, plot_scatter, plot_sensitivity


def make_page(report: Mapping[str, Any], scores: Sequence[Mapping[str, Any]]) -> str:
    """The page of a report.

    Args:
        report: from ``make_report``.
        scores: from ``scores_as_rows``.
    """
    environment = Environment(
        loader=PackageLoader("lfm_deploy.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"percent": _percent, "figure": _figure, "decibels": _decibels}
    ran = [engine for engine in report["engines"] if engine["not_run"] is None]
    return environment.get_template("report.html").render(
        report=report,
        ran=ran,
        batches=sorted({speed["batch"] for engine in ran for speed in engine["speeds"]}),
        scatters=_scatters(report, scores),
        quantised=[_quantised(findings) for findings in report["quantisation"].values()],
    )


def _scatters(report: Mapping[str, Any], scores: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """For every INT8 engine that ran, its logits over all suites against PyTorch's."""
    logits: dict[str, list[float]] = {}
    for row in scores:
        logits.setdefault(row["engine"], []).append(row["logit"])
    reference = report["engines"][0]["name"]
    labels = [row["label"] for row in scores if row["engine"] == reference]
    names = [engine["name"] for engine in report["engines"] if engine["quantisation"] and engine["name"] in logits]
    threshold = report["threshold"]
    return [Markup(plot_scatter(logits[reference], logits[name], labels, threshold, name=name)) for name in names]  # noqa: S704  # SVG by matplotlib, which escapes


def _quantised(findings: Mapping[str, Any]) -> dict[str, Any]:
    tensors = findings["tensors"]
    total = sum(layer["multiply_adds"] for layer in findings["layers"].values())
    return {
        "findings": findings,
        "work": {name: layer["multiply_adds"] / total for name, layer in findings["layers"].items()},
        "sensitivity": Markup(plot_sensitivity(findings["layers"], findings["budget"]["flips"])),  # noqa: S704
        "activations": Markup(plot_activations(tensors)) if tensors else None,  # noqa: S704
    }


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.0f} %"


def _figure(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else f"{value:{form}}"


def _decibels(layer: Mapping[str, Any]) -> str:
    if "snr_db" not in layer:
        return "-"
    return "exact" if layer["snr_db"] is None else f"{layer['snr_db']:.0f} dB"
