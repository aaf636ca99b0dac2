"""What is left of a detector's accuracy when pictures are treated before they arrive."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lfm_deploy.report.figures import value_of
from lfm_deploy.report.plots.style import FAKE, INK, REAL, as_svg, drawing


def plot_envelope(conditions: Sequence[Mapping[str, Any]], *, title: str) -> str:
    """Accuracy on real and on fake pictures and both together, with 95 % intervals, a line for each condition.

    Args:
        conditions: ``name``, and ``acc``, ``acc_real`` and ``acc_fake`` as estimates in per cent.
        title: of the plot, unique on its page.
    """
    places = np.arange(len(conditions), dtype=float)
    with drawing(4.6, 0.31 * len(conditions) + 0.8) as figure:
        axes = figure.subplots()
        series = (("acc_real", REAL, "o", -0.2), ("acc_fake", FAKE, "s", 0.2), ("acc", INK, "D", 0.0))
        for key, colour, marker, offset in series:
            known = [
                (place, condition[key])
                for place, condition in zip(places, conditions, strict=True)
                if value_of(condition[key]) is not None
            ]
            at = [place + offset for place, _ in known]
            values = [found["value"] for _, found in known]
            lows, highs = ([_or(found[end], found["value"]) for _, found in known] for end in ("low", "high"))
            axes.hlines(at, lows, highs, color=colour, linewidth=1.4, alpha=0.6)
            label = {"acc_real": "real", "acc_fake": "fake", "acc": "all"}[key]
            axes.plot(values, at, marker, color=colour, markersize=4.5, label=f"{label} pictures")
        axes.axvline(50, color=INK, linewidth=0.9, linestyle="--")
        axes.set_yticks(places, [condition["name"] for condition in conditions])
        axes.set_ylim(len(conditions) - 0.5, -0.5)
        axes.set_xlim(0, 101)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("accuracy, %; dashed: a coin")
        axes.grid(axis="x", color=INK, alpha=0.15, linewidth=0.6)
        figure.legend(loc="outside upper left", ncols=3, fontsize=8, handletextpad=0.2, columnspacing=1)
        worst = min(conditions, key=lambda condition: _or(value_of(condition["acc"]), 101.0))
        return as_svg(figure, title, f"{len(conditions)} conditions; the least accuracy is after {worst['name']}")


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
