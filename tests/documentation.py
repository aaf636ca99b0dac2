"""README and the pages of docs/ as the tests read them: by file, as commands, links, tables and flowing text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[1]
GUIDES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
PAGES = (*GUIDES, "CONTRIBUTING.md")


@dataclass(frozen=True, slots=True)
class Heading:
    """A title, and the name by which links find it."""

    text: str
    anchor: str


@cache
def read_page(page: str) -> str:
    """A page as it is written."""
    return (ROOT / page).read_text(encoding="utf-8")


def read_flowing(page: str) -> str:
    """A page as one line, for sentences that are broken anywhere."""
    return " ".join(read_page(page).split())


def find_row(page: str, *cells: str) -> tuple[str, ...]:
    """The cells of the one row of a page's tables that begins with these."""
    (row,) = [row for table in find_tables(page) for row in table if row[: len(cells)] == cells]
    return row


def find_tables(page: str) -> list[list[tuple[str, ...]]]:
    """Every table, its heading first, each row as the text of its cells with Markdown's marks in it."""
    tables: list[list[tuple[str, ...]]] = []
    cells: list[str] = []
    for before, token in _pairs(page):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            cells = []
        elif token.type == "tr_close":
            tables[-1].append(tuple(cells))
        elif token.type == "inline" and before.type in ("td_open", "th_open"):
            cells.append(token.content)
    return tables


def find_code(page: str, language: str) -> list[str]:
    """Fenced blocks of a language; those that are indented have the language ``""``."""
    return [
        token.content
        for token in _tokens(page)
        if (token.type == "fence" and token.info == language) or (token.type == "code_block" and not language)
    ]


def find_spans(page: str) -> list[str]:
    """Code inside sentences and tables."""
    return [part.content for part in _inline(page) if part.type == "code_inline"]


def find_links(page: str) -> list[str]:
    """Where links lead, as written."""
    return [str(part.attrs["href"]) for part in _inline(page) if part.type == "link_open"]


def find_headings(page: str) -> list[Heading]:
    """Titles of all depths, with the anchors that GitHub gives them."""
    headings = []
    for before, token in _pairs(page):
        if token.type == "inline" and before.type == "heading_open":
            kept = re.sub(r"[^\w\- ]", "", token.content.lower())
            headings.append(Heading(token.content, kept.replace(" ", "-")))
    return headings


def _inline(page: str) -> Iterator[Token]:
    for token in _tokens(page):
        yield from token.children or ()


def _pairs(page: str) -> Iterator[tuple[Token, Token]]:
    tokens = _tokens(page)
    return pairwise(tokens)


@cache
def _tokens(page: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(read_page(page))
