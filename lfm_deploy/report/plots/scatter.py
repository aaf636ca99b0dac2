"""Logits of an engine against the reference's."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from lfm_deploy.report.plots.style import FAKE, INK, REAL, RED, as_svg, drawing

# A point takes about 100 bytes of SVG; more than these are drawn as an image inside it.
_MOST_POINTS = 2000


def plot_scatter(
    reference: ArrayLike, logits: ArrayLike, labels: ArrayLike, threshold: float, *, name: str, title: str
) -> str:
    """Logits of an engine against the reference's, one point a picture; what changed sides is a red cross.

    Args:
        reference: ``(N,)``.
        logits: ``(N,)``, of the same pictures; what is not finite is left out.
        labels: integers ``(N,)``; 0 is real, 1 is fake.
        threshold: threshold of the contract; a logit above it is fake.
        name: name of the engine.
        title: title of the plot, unique on its page.
    """
    x, y, kinds = np.asarray(reference, float), np.asarray(logits, float), np.asarray(labels)
    finite = np.isfinite(x) & np.isfinite(y)
    x, y, kinds = x[finite], y[finite], kinds[finite]
    flipped = (x > threshold) != (y > threshold)
    with drawing(4.1, 3.9, margins=(0.62, 0.1, 0.5, 0.1)) as figure:
        axes = figure.subplots()
        _draw_lines(axes, threshold)
        for kind, colour, label in ((0, REAL, "real"), (1, FAKE, "fake")):
            kept = (kinds == kind) & ~flipped
            axes.scatter(
                x[kept], y[kept], s=7, color=colour, alpha=0.6, linewidths=0, rasterized=len(x) > _MOST_POINTS,
                label=f"{label} ({kept.sum()})",
            )  # fmt: skip
        if flipped.any():
            axes.scatter(
                x[flipped], y[flipped], s=26, color=RED, marker="x", linewidths=1.2,
                rasterized=flipped.sum() > _MOST_POINTS, label=f"flipped ({flipped.sum()})",
            )  # fmt: skip
        axes.set_xlabel("logit, pytorch fp32")
        axes.set_ylabel(f"logit, {name}")
        axes.legend(loc="upper left")
        return as_svg(figure, title, f"{len(x)} pictures, {flipped.sum()} of them on the other side of the threshold")


def _draw_lines(axes: Axes, threshold: float) -> None:
    """Both thresholds, and where both logits are the same."""
    axes.axhline(threshold, color=INK, linewidth=0.5)
    axes.axvline(threshold, color=INK, linewidth=0.5)
    axes.axline((threshold, threshold), slope=1, color=INK, linewidth=0.5, linestyle=":")
