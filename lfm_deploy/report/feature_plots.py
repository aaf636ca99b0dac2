"""Feature pictures as PNG for slides and paper: vectors on a plane, and what the network saw; dark ink on white."""

import io
import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lfm_deploy.exploration.examples import Example
from lfm_deploy.report.exploration_schema import ExampleValues, ExplorationReport, JudgedCounts, PointValues
from lfm_deploy.report.feature_images import PANELS, draw_panels
from lfm_deploy.report.feature_texts import describe_method, describe_result, shorten

# Blue is real and red is fake, as in pictures of evidence; the shapes tell them apart without colour.
_COLOURS = {"real": "#2b7bba", "fake": "#d9542b"}
_MARKERS = {0: "o", 1: "^"}
_INK, _SOFT, _LINE, _GHOST = "#1c2530", "#5d6b7a", "#c9d1da", "#e3e7ec"
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": _INK,
    "text.parse_math": False,  # a $ in the name of a file is a $
    "axes.titlecolor": _INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": _LINE,
    "figure.facecolor": "white",
}
_DPI = 160


def plot_embedding(report: ExplorationReport) -> bytes:
    """All vectors on one plane, and again for each test set where there are several.

    Args:
        report: report from ``make_exploration_report``.

    Returns:
        A PNG.
    """
    several = len(report["sets"]) > 1
    with _drawing():
        figure = Figure(figsize=(14.2, 8) if several else (8, 8.6), dpi=_DPI)
        # Rows: title, plots, method; a subfigure keeps its share, whatever the legend needs.
        top, bottom = 0.88, 0.12 if several else 0.135
        main = figure.add_axes((0.012, bottom, 0.487 if several else 0.976, top - bottom))
        _draw_points(main, report["points"], size=34)
        _frame(main, report["points"])
        _draw_legend(figure, report["counts"], bottom - 0.046)
        if several:
            _draw_sets(figure, report, (0.513, bottom, 0.475, top - bottom))
        figure.text(0.012, 0.955, describe_result(report)[0], fontsize=17, fontweight="bold", va="center")
        figure.text(0.012, 0.91, describe_result(report)[1], fontsize=11.5, va="center", color=_SOFT)
        note = "\n".join(textwrap.wrap(describe_method(report), 215 if several else 122))
        figure.text(0.012, 0.012, note, fontsize=8.5, color=_SOFT, va="bottom", linespacing=1.4)
        return _as_png(figure)


def plot_examples(report: ExplorationReport, examples: Sequence[Example]) -> bytes:
    """What the network saw: a row a picture, real ones on the left, fake ones on the right, as far as known.

    Args:
        report: report from ``make_exploration_report``.
        examples: examples that ``report["examples"]`` describes; one or more.

    Returns:
        A PNG.
    """
    rows = list(zip(report["examples"], examples, strict=True))
    blocks = [block for side in (0, 1) if (block := [row for row in rows if row[1].kind.side == side])]
    count = max(map(len, blocks))
    cell, title, note, head = 1.72, 0.46, 0.95, 0.62  # inches: of an image, the line above it, the notes, the headline
    width, height = 0.24 + len(blocks) * (4 * (cell + 0.06) + 0.3), head + 0.25 + count * (cell + title) + note
    with _drawing():
        figure = Figure(figsize=(width, height), dpi=_DPI)
        figure.text(
            0.16 / width, 1 - 0.34 / height, "What the network sees", fontsize=17, fontweight="bold", va="center"
        )
        for place, block in enumerate(blocks):
            left = 0.16 + place * (4 * (cell + 0.06) + 0.3)
            for column, panel in enumerate(PANELS):
                x, y = (left + column * (cell + 0.06)) / width, 1 - (head + 0.12) / height
                figure.text(x, y, panel.title, fontsize=10.5, color=_SOFT, va="center")
            for line, (about, example) in enumerate(block):
                top = height - head - 0.25 - line * (cell + title)
                _draw_row(figure, about, example, (left, top), (cell, title), (width, height))
        legends = "; ".join(f"{panel.title}: {panel.legend}" for panel in PANELS[1:])
        lines = textwrap.wrap(f"{legends[0].upper()}{legends[1:]}.", int(width * 16.5))
        figure.text(
            0.16 / width, 0.14 / height, "\n".join(lines), fontsize=8.5, color=_SOFT, va="bottom", linespacing=1.4
        )
        return _as_png(figure)


@contextmanager
def _drawing() -> Iterator[None]:
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the page has it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _draw_points(axes: Axes, points: Sequence[PointValues], *, size: float) -> None:
    """Filled where the label is known, hollow in the verdict's colour where it is not; wrong ones get a ring."""
    for verdict, (label, colour) in enumerate(_COLOURS.items()):
        known = _places([point for point in points if point["label"] == verdict])
        open_ = _places([point for point in points if point["label"] is None and point["verdict"] == label])
        axes.scatter(*known, s=size, marker=_MARKERS[verdict], color=colour, alpha=0.72, linewidths=0, zorder=2)
        axes.scatter(
            *open_, s=size, marker=_MARKERS[verdict], facecolors="none", edgecolors=colour, linewidths=1.1, zorder=2
        )
    wrong = _places([point for point in points if point["right"] is False])
    axes.scatter(*wrong, s=3.4 * size, facecolors="none", edgecolors=_INK, linewidths=1.2, zorder=3)


def _draw_sets(figure: Figure, report: ExplorationReport, box: tuple[float, float, float, float]) -> None:
    """One panel a test set: its own points before the shadow of all others."""
    points, sets = report["points"], report["sets"]
    columns = math.ceil(math.sqrt(len(sets)))
    lines = -(-len(sets) // columns)
    width, height = box[2] / columns, box[3] / lines
    title = 0.033
    for place, part in enumerate(sets):
        line, column = divmod(place, columns)
        bottom = box[1] + box[3] - (line + 1) * height
        axes = figure.add_axes((box[0] + column * width, bottom, width - 0.008, height - title))
        axes.scatter(*_places(points), s=7, color=_GHOST, linewidths=0, zorder=1)
        _draw_points(axes, [point for point in points if point["set"] == part["set"]], size=60 / columns)
        _frame(axes, points)
        judged = part["right"] + part["wrong"]
        font = 9 if columns < 4 else 7.5
        axes.set_title(shorten(part["set"], 54 // columns), fontsize=font, pad=3)
        if judged:
            axes.set_title(f"{part['right']}/{judged} right", fontsize=font, pad=3, loc="right", color=_SOFT)


def _draw_legend(figure: Figure, counts: JudgedCounts, bottom: float) -> None:
    entries: list[tuple[str, Any]] = []
    labelled = (counts["real"], counts["fake"])
    for verdict, (label, colour) in enumerate(_COLOURS.items()):
        if labelled[verdict]:
            entries.append((f"{label} ({labelled[verdict]})", {"marker": _MARKERS[verdict], "color": colour}))
        if counts["unlabelled"]:
            style: dict[str, Any] = {"marker": _MARKERS[verdict], "color": colour, "markerfacecolor": "none"}
            entries.append((f"no label, judged {label}", style))
    if counts["wrong"]:
        style = {"marker": "o", "color": _INK, "markerfacecolor": "none", "markersize": 11}
        entries.append((f"judged wrong ({counts['wrong']})", style))
    handles = [Line2D([], [], linestyle="none", **({"markersize": 7} | style)) for _, style in entries]
    figure.legend(
        handles, [text for text, _ in entries], loc="lower left", bbox_to_anchor=(0.004, bottom), ncols=len(entries),
        frameon=False, fontsize=11 if len(entries) < 4 else 8.5, handletextpad=0.1, columnspacing=1.4, borderaxespad=0,
    )  # fmt: skip


def _draw_row(
    figure: Figure,
    about: ExampleValues,
    example: Example,
    corner: tuple[float, float],
    cell: tuple[float, float],
    size: tuple[float, float],
) -> None:
    """Four images under one line of text; all lengths in inches, ``corner`` is the top left one."""
    (left, top), (side, title), (width, height) = corner, cell, size
    colour = _COLOURS[about["verdict"]]
    y = 1 - (height - top + title / 2 + 0.04) / height
    figure.text(
        left / width, y, f"{about['logit']:+.1f}  {about['kind']}", fontsize=10.5, color=colour, fontweight="bold",
        va="center",
    )  # fmt: skip
    figure.text(
        (left + 4 * side + 0.18) / width, y, shorten(f"{about['set']} · {about['path'].rpartition('/')[2]}", 44),
        fontsize=8.5, color=_SOFT, va="center", ha="right",
    )  # fmt: skip
    for column, image in enumerate(draw_panels(example)):
        box = ((left + column * (side + 0.06)) / width, (top - title - side) / height, side / width, side / height)
        axes = figure.add_axes(box)
        axes.imshow(np.asarray(image), interpolation="lanczos" if max(image.size) > 300 else "nearest")
        axes.set_axis_off()
        axes.set_anchor("N")


def _frame(axes: Axes, points: Sequence[PointValues]) -> None:
    """The same window in every panel; axes of t-SNE have no unit, so that they get no ticks."""
    for values, axis in zip(_places(points), ("x", "y"), strict=True):
        low, high = min(values), max(values)
        margin = 0.05 * (high - low) or 1
        getattr(axes, f"set_{axis}lim")(low - margin, high + margin)
    axes.set_xticks([])
    axes.set_yticks([])


def _places(points: Sequence[PointValues]) -> tuple[list[float], list[float]]:
    return [point["x"] for point in points], [point["y"] for point in points]


def _as_png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI, metadata={"Software": None})
    return content.getvalue()
