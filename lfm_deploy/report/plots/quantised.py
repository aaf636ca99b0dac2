"""How an INT8 graph came about: its layers and the ranges of its tensors."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from calib.findings_schema import LayerValues, TensorValues
from lfm_deploy.report.plots.style import AMBER, BLUE, GREEN, RED, as_svg, drawing


def plot_activations(tensors: Mapping[str, TensorValues], *, title: str) -> str:
    """How often each tensor takes which values, and which of them its range keeps.

    Args:
        tensors: values of each tensor, by its name: ``histogram`` (counts in equal bins), ``histogram_low``,
            ``histogram_high``, and ``kept``, the lowest and highest value that the range keeps, or None where the
            tensor stays in floating point.
        title: title of the plot, unique on its page.
    """
    rows = -(-len(tensors) // 2)
    with drawing(8.4, 1.55 * rows + 0.3, margins=(0.15, 0.15, 0.3, 0.25)) as figure:
        figure.subplots_adjust(hspace=0.55, wspace=0.08)
        grid = figure.subplots(rows, 2, squeeze=False)
        for axes, (name, tensor) in zip(grid.flat, tensors.items(), strict=False):
            _draw_histogram(axes, name, tensor)
        for axes in figure.axes[len(tensors) :]:
            axes.remove()
        return as_svg(figure, title, f"Histograms of {len(tensors)} tensors, with the range that INT8 keeps")


def plot_sensitivity(layers: Mapping[str, LayerValues], allowed: float, *, title: str) -> str:
    """Estimated flips with one layer alone in INT8, and with all but it, beside what the budget allows.

    Args:
        layers: values of each layer, by its name: ``precision``, ``only`` and ``without`` with their ``flips`` in per
            cent.
        allowed: flips in per cent.
        title: title of the plot, unique on its page.
    """
    names = list(layers)
    with drawing(8.4, 0.42 * len(names) + 1.0) as figure:
        axes = figure.subplots()
        places = np.arange(len(names), dtype=float)
        for offset, estimates, colour, label in (
            (-0.19, [layer["only"] for layer in layers.values()], BLUE, "this layer alone in INT8"),
            (0.19, [layer["without"] for layer in layers.values()], AMBER, "all layers but this one"),
        ):
            # An estimate that is no number is drawn as nothing; the table says "-".
            widths = [estimate["flips"] or 0.0 for estimate in estimates]
            axes.barh(places + offset, widths, height=0.36, color=colour, label=label)
        axes.axvline(allowed, color=RED, linestyle="--", linewidth=1, label=f"budget {allowed:g} %")
        axes.set_yticks(places, [f"{name} ({layers[name]['precision']})" for name in names])
        axes.invert_yaxis()
        axes.set_xlabel("decisions that change, estimated, %")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0)
        return as_svg(
            figure, title, f"Decisions that change with each of {len(names)} layers in INT8, and with all but it"
        )


def _draw_histogram(axes: Axes, name: str, tensor: TensorValues) -> None:
    counts = np.asarray(tensor["histogram"], float)
    low, high = tensor["histogram_low"], tensor["histogram_high"]
    edges = np.linspace(low, high, len(counts) + 1)
    axes.set_yscale("log")
    axes.stairs(np.maximum(counts, 0.5), edges, baseline=0.5, fill=True, color=BLUE, alpha=0.75)
    axes.set_ylim(bottom=0.5)
    axes.yaxis.set_major_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.spines["left"].set_visible(False)
    kept = tensor["kept"]
    if kept is None:
        axes.set_title(f"{name}: stays in floating point")
        return
    axes.axvspan(kept[0], kept[1], color=GREEN, alpha=0.18, linewidth=0)
    for edge in kept:
        axes.axvline(edge, color=GREEN, linewidth=1)
    axes.set_title(f"{name}: {tensor['chosen']}, {kept[0]:.4g} to {kept[1]:.4g}")
