"""How deep a text nests, found before it is parsed: parsers recurse, and take memory by the square of the depth.

Python's ``tomllib`` keeps every prefix of a dotted key, so that 60 KB of ``a.a.a...`` take 3 GiB.
"""

import re
from itertools import accumulate

MOST_LEVELS = 32
_MOST_PARTS = 16

# Strings and comments are passed over. One that does not end goes on to the end of its line or of the text, where the
# parser will complain of it; so a scan takes one pass.
_JSON = re.compile(r'"(?:\\.|[^"\\])*"?|[\[\]{}]', re.DOTALL)
_NO_BRACKETS = re.compile(r'"(?:\\.|[^"\\])*"?|[^\[\]{}"]+', re.DOTALL)
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}
_TOML = re.compile(
    r"""
    \"{3} (?:\\.|[^\\])*? (?:\"{3,5}|\Z) | '{3} .*? (?:'{3,5}|\Z)
    | \" (?:\\.|[^\"\\\n])* \"? | ' [^'\n]* '? | \# [^\n]*
    | [\[\]{}.=,\n]
    """,
    re.DOTALL | re.VERBOSE,
)


def find_json_fault(text: str) -> str:
    """Why a text is not to be parsed as JSON; empty where nothing stands against it."""
    if text.count("[") + text.count("{") <= MOST_LEVELS:
        return ""
    levels = accumulate(map(_STEPS.__getitem__, _NO_BRACKETS.sub("", text)))
    if max(levels, default=0) <= MOST_LEVELS:
        return ""
    level = 0
    for token in _JSON.finditer(text):
        level += _STEPS.get(token[0], 0)
        if level > MOST_LEVELS:
            return _too_deep(text, token.start())
    return ""


def find_toml_fault(text: str) -> str:
    """Why a text is not to be parsed as TOML; empty where nothing stands against it."""
    level = dots = 0
    for token in _TOML.finditer(text):
        first = token[0][0]
        level += _STEPS.get(first, 0)
        if level > MOST_LEVELS:
            return _too_deep(text, token.start())
        dots = dots + 1 if first == "." else 0 if first in "=,\n{}[]" else dots
        if dots >= _MOST_PARTS:
            return f"line {_line(text, token.start())} has a key of more than {_MOST_PARTS} parts"
    return ""


def _too_deep(text: str, position: int) -> str:
    return f"line {_line(text, position)} nests deeper than {MOST_LEVELS} levels"


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
