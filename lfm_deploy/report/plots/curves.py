"""Precision over recall, as many curves as there are engines or test sets."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lfm_deploy.report.plots.style import COLOURS, as_svg, drawing

# Steps of a curve's length that are kept; one is less than a pixel of the plot.
_STEPS = 400


def precision_recall(logits: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """Recall and precision of the fake class at every threshold, ``(2, M)``, from recall 0 on; equal logits share one.

    Args:
        logits: ``(N,)``, finite.
        labels: ``(N,)``; 0 is real, 1 is fake, and both are there.
    """
    scores, truth = np.asarray(logits, float), np.asarray(labels)
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # the last of each run of equal logits
    found = np.cumsum(truth[order] == 1)[ends]
    recall, precision = found / found[-1], found / (ends + 1)
    return np.stack([np.append(0.0, recall), np.append(precision[0], precision)])


def thin_curve(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """A curve of a few hundred points that lies within a pixel of it: about one for each step of its length.

    Args:
        curve: ``(2, M)``, both rows in [0, 1].
    """
    length = np.append(0.0, np.cumsum(np.abs(np.diff(curve)).sum(axis=0)))
    step = np.floor(length * (_STEPS / max(length[-1], 1.0)))
    # The last point of each step, and the first point of the next: long jumps keep both their ends.
    edge = np.diff(step) > 0
    kept = np.append(edge, True) | np.append(True, edge)
    return curve[:, kept]


def plot_curves(series: Sequence[tuple[str, ArrayLike, ArrayLike]], *, title: str) -> str:
    """Precision over recall.

    Args:
        series: name, logits and labels of each, as of ``precision_recall``; the names stand in the legend.
        title: title of the plot, unique on its page.
    """
    curves = [(name, precision_recall(logits, labels)) for name, logits, labels in series]
    lowest = min(float(curve[1].min()) for _, curve in curves)
    legend = 0.1 + 0.16 * ((len(curves) + 1) // 2)
    with drawing(4.2, 3.2 + legend, margins=(0.6, 0.1, 0.5 + legend, 0.28)) as figure:
        axes = figure.subplots()
        for index, (name, curve) in enumerate(curves):
            recall, precision = thin_curve(curve)
            # The first, the reference, lies below the others, which mostly hide it: it is wider.
            axes.plot(
                recall,
                precision,
                color=COLOURS[index % len(COLOURS)],
                linewidth=1.4 if index else 3,
                alpha=0.9 if index else 0.55,
                linestyle="-" if index < len(COLOURS) else "--",
                label=name,
            )
        axes.set_xlim(0, 1.005)
        axes.set_ylim(max(0.0, np.floor(10 * lowest) / 10 - 0.02), 1.005)
        axes.set_xlabel("recall of fakes")
        axes.set_ylabel("precision")
        axes.set_title(title)
        figure.legend(loc="lower center", ncols=2, fontsize=7.5, borderpad=0)
        names = ", ".join(name for name, _ in curves)
        return as_svg(figure, title, f"Precision over recall of: {names}")
