"""Plots as SVG for pages: they take the page's colour for ink, so that they are read in light and dark."""

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

# matplotlib cannot write currentColor, so a colour that nothing else has stands for it.
_INK = "#123454"
_BLUE, _RED, _GREEN, _AMBER = "#3b82c4", "#d6604d", "#3f9b6b", "#d9932f"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lfm-deploy",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "xtick.color": _INK,
    "ytick.color": _INK,
    "figure.facecolor": "none",
    "legend.frameon": False,
}

# For files that stand alone: no page lends them its colours.
_ON_PAPER: Any = {"figure.facecolor": "white"}
_COLOURS = (_BLUE, _RED, _GREEN, _AMBER, "#8a63b5", "#6b7785")
_LABEL_GAP = 0.05
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def plot_activations(tensors: Mapping[str, Mapping[str, Any]]) -> str:
    """How often each tensor takes which values, and which of them its range keeps.

    Args:
        tensors: by name, ``histogram`` (counts in equal bins), ``histogram_low``, ``histogram_high``, and ``kept``, the
            lowest and highest value that the range keeps, or None where the tensor stays in floating point.
    """
    rows = -(-len(tensors) // 2)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 1.55 * rows + 0.3), layout="constrained")
        for axes, (name, tensor) in zip(figure.subplots(rows, 2, squeeze=False).flat, tensors.items(), strict=False):
            _draw_histogram(axes, name, tensor)
        for axes in figure.axes[len(tensors) :]:
            axes.remove()
        return _as_svg(figure, "Histograms of activations, with the range that INT8 keeps")


def plot_sensitivity(layers: Mapping[str, Mapping[str, Any]], allowed: float) -> str:
    """Estimated flips with one layer alone in INT8, and with all but it, beside what the budget allows.

    Args:
        layers: by name, ``precision``, ``only`` and ``without`` with their ``flips`` in per cent.
        allowed: flips in per cent.
    """
    names = list(layers)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 0.42 * len(names) + 1.0), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(names), dtype=float)
        for offset, kind, colour, label in (
            (-0.19, "only", _BLUE, "this layer alone in INT8"),
            (0.19, "without", _AMBER, "all layers but this one"),
        ):
            # An estimate that is no number is drawn as nothing; the table says "-".
            widths = [layers[name][kind]["flips"] or 0.0 for name in names]
            axes.barh(places + offset, widths, height=0.36, color=colour, label=label)
        axes.axvline(allowed, color=_RED, linestyle="--", linewidth=1, label=f"budget {allowed:g} %")
        axes.set_yticks(places, [f"{name} ({layers[name]['precision']})" for name in names])
        axes.invert_yaxis()
        axes.set_xlabel("decisions that change, estimated, %")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0)
        return _as_svg(figure, "Decisions that change with each layer in INT8")


def plot_scatter(
    reference: Sequence[float], logits: Sequence[float], labels: Sequence[int], threshold: float, *, name: str
) -> str:
    """Logits of an engine against the reference's, one point a picture; what changed sides is drawn in red.

    Args:
        reference: ``(N,)``.
        logits: ``(N,)``, of the same pictures; what is not finite is left out.
        labels: 0 is real, 1 is fake.
        threshold: of the contract.
        name: of the engine.
    """
    x, y, kinds = np.asarray(reference, float), np.asarray(logits, float), np.asarray(labels)
    flipped = (x > threshold) != (y > threshold)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.1, 3.9), layout="constrained")
        axes = figure.subplots()
        axes.axhline(threshold, color=_INK, linewidth=0.5)
        axes.axvline(threshold, color=_INK, linewidth=0.5)
        axes.axline((threshold, threshold), slope=1, color=_INK, linewidth=0.5, linestyle=":")
        for kind, colour, label in ((0, _GREEN, "real"), (1, _BLUE, "fake")):
            kept = (kinds == kind) & ~flipped
            axes.scatter(x[kept], y[kept], s=7, color=colour, alpha=0.6, linewidths=0, label=f"{label} ({kept.sum()})")
        if flipped.any():
            axes.scatter(x[flipped], y[flipped], s=26, color=_RED, marker="x", label=f"flipped ({flipped.sum()})")
        axes.set_xlabel("logit, pytorch fp32")
        axes.set_ylabel(f"logit, {name}")
        axes.legend(loc="upper left")
        return _as_svg(figure, f"Logits of {name} against PyTorch")


def plot_batches(engines: Sequence[Mapping[str, Any]], subtitle: str) -> dict[str, bytes]:
    """Throughput and latency of engines over the batch size, for paper and screen: dark ink on white.

    Args:
        engines: ``name``, ``arithmetic`` and ``points`` with ``batch``, ``fps``, ``p50_ms``, ``p95_ms``, ``roofline``;
            an engine without points is left out.
        subtitle: what it was measured on.

    Returns:
        The image files ``"svg"`` and ``"png"``.
    """
    drawn = [engine for engine in engines if engine["points"]]
    with mpl.rc_context(_STYLE | _ON_PAPER):
        figure = Figure(figsize=(9.2, 4.6), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12)  # type: ignore[call-arg, union-attr]  # of the constrained one
        throughput, latency = figure.subplots(1, 2)
        for engine, colour, marker in zip(drawn, cycle(_COLOURS), cycle(_MARKERS), strict=False):
            points = engine["points"]
            batches = [point["batch"] for point in points]
            style: Any = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.5}
            throughput.plot(batches, [point["fps"] for point in points], label=engine["name"], **style)
            latency.plot(batches, [point["p50_ms"] for point in points], **style)
            median, p95 = ([point[key] for point in points] for key in ("p50_ms", "p95_ms"))
            latency.fill_between(batches, median, p95, color=colour, alpha=0.18, linewidth=0)
        _draw_rooflines(throughput, drawn)
        _label_batches(throughput, drawn, "pictures a second")
        _label_batches(latency, drawn, "latency of a batch, ms")
        throughput.set_title("throughput of the engine alone; dashed: the machine's limit")
        latency.set_yscale("log")
        latency.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        latency.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        latency.yaxis.set_minor_formatter(NullFormatter())
        latency.set_title("latency: median, shaded up to p95")
        figure.legend(loc="outside lower center", ncols=min(3, len(drawn)))
        figure.suptitle(subtitle, fontsize=9, x=0.01, ha="left")
        return {kind: _as_file(figure, kind) for kind in ("svg", "png")}


def _draw_rooflines(axes: Axes, engines: Sequence[Mapping[str, Any]]) -> None:
    """A dashed line for each roofline that is different, named in the margin; one arithmetic shares one."""
    lines: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for engine in engines:
        limits = [(point["batch"], point["roofline"]["fps"]) for point in engine["points"] if point["roofline"]]
        if limits:
            lines.setdefault((engine["arithmetic"].upper(), round(limits[-1][1])), limits)
    for limits in lines.values():
        axes.plot(*zip(*limits, strict=True), color=_INK, linestyle="--", linewidth=0.9)
    axes.set_ylim(bottom=0)
    top, lowest = axes.get_ylim()[1], 0.0
    for (name, _), limits in sorted(lines.items(), key=lambda line: line[1][-1][1]):
        height, fps = limits[-1][1] / top, limits[-1][1]
        lowest = max(height, lowest + _LABEL_GAP)
        axes.annotate(
            f"{name} {fps:.0f}" if fps >= 100 else f"{name} {fps:.3g}",
            (1, height),
            xytext=(1.03, lowest),
            xycoords="axes fraction",
            fontsize=8,
            va="center",
        )


def _label_batches(axes: Axes, engines: Sequence[Mapping[str, Any]], what: str) -> None:
    batches = sorted({point["batch"] for engine in engines for point in engine["points"]})
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.minorticks_off()
    axes.set_xlabel("batch")
    axes.set_ylabel(what)
    axes.grid(axis="y", color="#d8d8d8", linewidth=0.6)
    axes.set_axisbelow(True)


def _as_file(figure: Figure, kind: str) -> bytes:
    content = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    figure.savefig(content, format=kind, dpi=160, metadata=metadata)
    return content.getvalue()


def _draw_histogram(axes: Axes, name: str, tensor: Mapping[str, Any]) -> None:
    counts = np.asarray(tensor["histogram"], float)
    low, high = tensor["histogram_low"], tensor["histogram_high"]
    edges = np.linspace(low, high, len(counts) + 1)
    axes.set_yscale("log")
    axes.stairs(np.maximum(counts, 0.5), edges, baseline=0.5, fill=True, color=_BLUE, alpha=0.75)
    axes.set_ylim(bottom=0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    kept = tensor["kept"]
    if kept is None:
        axes.set_title(f"{name}: stays in floating point")
        return
    axes.axvspan(kept[0], kept[1], color=_GREEN, alpha=0.18, linewidth=0)
    for edge in kept:
        axes.axvline(edge, color=_GREEN, linewidth=1)
    axes.set_title(f"{name}: {tensor['chosen']}, {kept[0]:.4g} to {kept[1]:.4g}")


def _as_svg(figure: Figure, description: str) -> str:
    """The figure as an ``<svg>`` element that scales with the page; the same figure gives the same text."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Title": description})
    _, opening, rest = text.getvalue().partition("<svg ")
    return f'{opening}role="img" {rest}'.replace(_INK, "currentColor")
