"""What is left of a detector's decisions when pictures are treated before they arrive."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from lfm_deploy.report.plots.style import AMBER, BLUE, GREEN, INK, RED, as_svg, drawing
from lfm_deploy.verification.envelope_values import ConditionValues, SetFigureName

# Half the distance, in rows, between two figures of a condition: equal ones stay visible.
_APART = 0.16


def plot_envelope(conditions: Sequence[ConditionValues], *, title: str) -> str:
    """ACC and AP, fakes found and real pictures called fake, with 95 % intervals; dotted lines are the file as it is.

    Args:
        conditions: ``name``, and ``acc``, ``ap``, ``acc_fake`` and ``fpr`` as estimates in per cent; the first one is
            the picture as it is.
        title: title of the plot, unique on its page.
    """
    with drawing(8.4, 0.29 * len(conditions) + 1.1) as figure:
        figure.get_layout_engine().set(wspace=0.08)  # type: ignore[call-arg, union-attr]  # of the constrained one
        left, right = figure.subplots(1, 2, sharey=True)
        _draw_figures(left, conditions, (("acc", BLUE, "o", "ACC"), ("ap", AMBER, "D", "AP")))
        _draw_figures(
            right, conditions, (("acc_fake", GREEN, "s", "fakes found"), ("fpr", RED, "X", "real called fake"))
        )
        left.set_yticks(range(len(conditions)), [condition["name"] for condition in conditions])
        left.set_ylim(len(conditions) - 0.4, -0.6)
        for axes in (left, right):
            axes.set_xlabel("%; dotted: as is")
            axes.tick_params(axis="y", length=0)
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, handletextpad=0.2)
        known = [(acc["value"], one["name"]) for one in conditions if (acc := one["acc"]) is not None]
        worst = min(known, key=lambda pair: pair[0])[1] if known else "none"
        return as_svg(figure, title, f"{len(conditions)} conditions; the least accuracy is after {worst}")


def _draw_figures(
    axes: Axes, conditions: Sequence[ConditionValues], series: Sequence[tuple[SetFigureName, str, str, str]]
) -> None:
    for row in range(len(conditions)):
        axes.axhline(row, color=INK, linewidth=0.4, alpha=0.2, zorder=0)
    for (key, colour, marker, label), offset in zip(series, (-_APART, _APART), strict=True):
        found = [(row + offset, figure) for row, one in enumerate(conditions) if (figure := one[key]) is not None]
        for place, estimate in found:
            axes.hlines(place, estimate["low"], estimate["high"], color=colour, linewidth=2.2, alpha=0.45)
        points = [estimate["value"] for _, estimate in found]
        axes.plot(points, [place for place, _ in found], marker, color=colour, markersize=5, label=label, clip_on=False)
        if (untreated := conditions[0][key]) is not None:
            axes.axvline(untreated["value"], color=colour, linewidth=0.9, linestyle=":", zorder=0)
    axes.set_xlim(0, 100)
    axes.spines["left"].set_visible(False)
