"""Throughput and latency over the batch size."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from lfm_deploy.report.engine_schema import SpeedFigureName, TimedEngine
from lfm_deploy.report.plots.style import COLOURS, INK, as_file, as_svg, drawing

_LABEL_GAP = 0.05
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def plot_speeds(engines: Sequence[TimedEngine], key: SpeedFigureName, *, title: str) -> str:
    """Throughput or latency of engines over the batch size, for a page.

    Args:
        engines: ``name`` and ``speeds`` with ``batch``, ``fps``, ``latency_ms``; each has some.
        key: ``"fps"`` or ``"latency_ms"``.
        title: title of the plot, unique on its page.
    """
    legend = 0.1 + 0.16 * ((len(engines) + 1) // 2)
    with drawing(4.2, 3.0 + legend, margins=(0.65, 0.1, 0.5 + legend, 0.28)) as figure:
        axes = figure.subplots()
        for engine, colour, marker in zip(engines, cycle(COLOURS), cycle(_MARKERS), strict=False):
            batches = [speed["batch"] for speed in engine["speeds"]]
            values = [speed[key] for speed in engine["speeds"]]
            axes.plot(batches, values, label=engine["name"], color=colour, marker=marker, markersize=5, linewidth=1.5)
        points = [{"points": engine["speeds"]} for engine in engines]
        _label_batches(axes, points, "pictures a second" if key == "fps" else "latency of a batch, ms")
        if key == "fps":
            axes.set_ylim(bottom=0)
        else:
            _use_decades(axes)
        axes.set_title(title)
        figure.legend(loc="lower center", ncols=2, fontsize=7.5, borderpad=0)
        return as_svg(figure, title, f"Of {', '.join(engine['name'] for engine in engines)}")


def plot_batches(engines: Sequence[Mapping[str, Any]], subtitle: str) -> dict[str, bytes]:
    """Throughput and latency of engines over the batch size, for paper and screen: dark ink on white.

    Args:
        engines: ``name``, ``arithmetic`` and ``points`` with ``batch``, ``fps``, ``p50_ms``, ``p95_ms``, ``roofline``;
            an engine without points is left out.
        subtitle: line under the title, such as what was measured and on which machine.

    Returns:
        The image files ``"svg"`` and ``"png"``.
    """
    drawn = [engine for engine in engines if engine["points"]]
    with drawing(9.2, 4.6, on_paper=True) as figure:
        figure.get_layout_engine().set(w_pad=0.12)  # type: ignore[call-arg, union-attr]  # of the constrained one
        throughput, latency = figure.subplots(1, 2)
        for engine, colour, marker in zip(drawn, cycle(COLOURS), cycle(_MARKERS), strict=False):
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
        _use_decades(latency)
        latency.set_title("latency: median, shaded up to p95")
        figure.legend(loc="outside lower center", ncols=min(3, len(drawn)))
        figure.suptitle(subtitle, fontsize=9, x=0.01, ha="left")
        return {kind: as_file(figure, kind) for kind in ("svg", "png")}


def _draw_rooflines(axes: Axes, engines: Sequence[Mapping[str, Any]]) -> None:
    """A dashed line for each roofline that is different, named in the margin; one arithmetic shares one."""
    lines: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for engine in engines:
        limits = [(point["batch"], point["roofline"]["fps"]) for point in engine["points"] if point["roofline"]]
        if limits:
            lines.setdefault((engine["arithmetic"].upper(), round(limits[-1][1])), limits)
    for limits in lines.values():
        axes.plot(*zip(*limits, strict=True), color=INK, linestyle="--", linewidth=0.9)
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
    axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.6)
    axes.set_axisbelow(True)


def _use_decades(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
