"""Where an engine's logits lie: real and fake pictures, and the threshold between them."""

import numpy as np
from numpy.typing import ArrayLike

from lfm_deploy.report.plots.style import FAKE, INK, REAL, as_svg, drawing

_BINS = 48
# Per cent of the logits at either end that share the outermost bin, so that one stray value does not flatten the rest.
_TAIL = 0.2


def plot_histogram(logits: ArrayLike, labels: ArrayLike, threshold: float, *, title: str, scope: str) -> str:
    """Counts of real and fake pictures over the logit.

    Args:
        logits: ``(N,)``; what is not finite is left out.
        labels: integers ``(N,)``; 0 is real, 1 is fake.
        threshold: logit above which a picture is fake.
        title: title of the plot.
        scope: name of the pictures, so that title and scope together are unique on their page.
    """
    values, kinds = np.asarray(logits, float), np.asarray(labels)
    finite = np.isfinite(values)
    values, kinds = values[finite], kinds[finite]
    low, high = np.percentile(values, [_TAIL, 100 - _TAIL]) if len(values) else (-1.0, 1.0)
    low, high = min(low, threshold), max(high, threshold)
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    with drawing(3.2, 2.2, margins=(0.55, 0.1, 0.48, 0.25)) as figure:
        axes = figure.subplots()
        for kind, colour, label in ((0, REAL, "real"), (1, FAKE, "fake")):
            chosen = np.clip(values[kinds == kind], edges[0], edges[-1])
            counts, _ = np.histogram(chosen, edges)
            axes.stairs(counts, edges, fill=True, color=colour, alpha=0.5)
            axes.stairs(counts, edges, color=colour, linewidth=1, label=f"{label} ({len(chosen)})")
        axes.axvline(threshold, ymax=0.8, color=INK, linewidth=0.8, linestyle="--")
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # room for the legend
        axes.set_xlabel("logit")
        axes.set_ylabel("pictures")
        axes.set_title(title)
        axes.legend(loc="upper left", ncols=2, fontsize=7.5, handlelength=1, columnspacing=1)
        wrong = int((values[kinds == 0] > threshold).sum()), int((values[kinds == 1] <= threshold).sum())
        return as_svg(
            figure,
            f"{title} on {scope}",
            f"{wrong[0]} real pictures above the threshold {threshold:g}, {wrong[1]} fake not",
        )
