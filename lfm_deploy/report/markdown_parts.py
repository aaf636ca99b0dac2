"""Markdown that shows what it is given: escaped text, tables, figures; for GitHub and for Hugging Face."""

import re
from collections.abc import Iterable, Sequence

from lfm_deploy.report.figures import Figure, show_estimate

# What means something to Markdown inside a line, or ends the cell of a table.
_SPECIAL = re.compile(r"([\\`*_\[\]|~$])")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
# GitHub makes links of these by itself.
_LINKED = {"://": "&#58;//", "www.": "www&#46;"}


def escape(text: str) -> str:
    """Text as it is, inside a line: nothing in it is taken for Markdown, HTML, an address or the end of a cell."""
    escaped = _SPECIAL.sub(r"\\\1", " ".join(text.split()).translate(_ENTITIES))
    for mark, entity in _LINKED.items():
        escaped = escaped.replace(mark, entity)
    return escaped


def format_table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table whose first columns stand left; cells are escaped already.

    Args:
        headings: heading of each column.
        rows: cells, row by row.
        left: number of columns that stand left.
    """
    rules = [":--" if index < left else "--:" for index in range(len(headings))]
    lines = [headings, rules, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_estimate(found: Figure, form: str = ".1f") -> str:
    """A figure with its interval, for a cell."""
    return show_estimate(found, form).replace("[", r"\[")


def format_code(text: str) -> str:
    """A block of code that nothing in it can end."""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 3)
    return f"{fence}\n{text}\n{fence}"
