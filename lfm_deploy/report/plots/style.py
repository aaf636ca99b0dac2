"""How plots look: they take the page's colour for ink, so that they are read in light and dark."""

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

# matplotlib cannot write currentColor, so a colour that nothing else has stands for it.
INK = "#123454"
BLUE, RED, GREEN, AMBER = "#3b82c4", "#d6604d", "#3f9b6b", "#d9932f"
COLOURS = (BLUE, RED, GREEN, AMBER, "#8a63b5", "#6b7785", "#1fa3a3", "#c26fa6", "#8c7a3f", "#5b6ee1")
REAL, FAKE = GREEN, BLUE
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lfm-deploy",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "none",
    "legend.frameon": False,
}

# For files that stand alone: no page lends them its colours.
_ON_PAPER: Any = {"figure.facecolor": "white"}
_TAG = re.compile(r"<[^>]+>")
_IDENTIFIER = re.compile(r'(\bid="|url\(#|href="#)')
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_SHEET = re.compile(r"\s*<defs>\s*<style[^>]*>[^<]*</style>\s*</defs>")


@contextmanager
def drawing(
    width: float,
    height: float,
    *,
    margins: tuple[float, float, float, float] | None = None,
    on_paper: bool = False,
) -> Iterator[Figure]:
    """A figure in the style of all plots, saved inside the block.

    Args:
        width: width in inches; a page shows 96 pixels for each.
        height: height in inches.
        margins: left, right, bottom and top of the axes, in inches; None lets matplotlib find them, which takes as
            long as drawing.
        on_paper: whether the plot is for a file that stands alone, and not for a page.
    """
    with mpl.rc_context(_STYLE | (_ON_PAPER if on_paper else {})):
        figure = Figure(figsize=(width, height), layout="constrained" if margins is None else None)
        if margins is not None:
            left, right, bottom, top = margins
            figure.subplots_adjust(
                left=left / width, right=1 - right / width, bottom=bottom / height, top=1 - top / height
            )
        yield figure


def as_svg(figure: Figure, title: str, description: str) -> str:
    """The figure as an ``<svg>`` element that scales with its page; the same figure gives the same text.

    Args:
        figure: figure to save.
        title: names it, for those who cannot see it, and makes its identifiers, so it is unique on its page.
        description: sentence on what the figure shows.
    """
    text = io.StringIO()
    figure.savefig(text, format="svg", dpi=144, metadata={"Date": None, "Creator": None})
    _, opening, rest = _SHEET.sub("", _METADATA.sub("", text.getvalue())).partition("<svg ")
    prefix = f"p{hashlib.sha256(title.encode()).hexdigest()[:10]}-"
    # matplotlib escapes < and > in text and attributes, so what looks like a tag is one.
    drawn = _TAG.sub(lambda tag: _shorten(tag[0], prefix), opening + rest).replace(INK, "currentColor")
    head, _, body = drawn.partition(">")
    return (
        f'{head} role="img" aria-labelledby="{prefix}title {prefix}desc" '
        f'style="stroke-linejoin: round; stroke-linecap: butt">'
        f'<title id="{prefix}title">{escape(title)}</title><desc id="{prefix}desc">{escape(description)}</desc>{body}'
    )


def _shorten(tag: str, prefix: str) -> str:
    """A tag with identifiers of its own, and numbers to a hundredth of a point, which nobody sees."""
    rounded = _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), tag)
    return _IDENTIFIER.sub(rf"\g<1>{prefix}", rounded)


def as_file(figure: Figure, kind: str) -> bytes:
    """The figure as an image file, ``"svg"`` or ``"png"``."""
    content = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    figure.savefig(content, format=kind, dpi=160, metadata=metadata)
    return content.getvalue()
