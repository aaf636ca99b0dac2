"""What is wrong with a value, in words: where it stands, what it is, and what was expected there."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Meta, inspect

Place = tuple[Any, str | int] | None
"""A place among values: that of what holds it, and its key there; None is the top."""

_INT64 = 1 << 63
_MOST_LETTERS = 80
_KINDS = {"int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false",
          "array": "a list", "object": "a table", "null": "nothing"}  # fmt: skip
_PATTERNS: dict[str, str] = {}


def matching(pattern: str, words: str) -> Meta:
    """Bounds of a text, for ``Annotated``.

    Args:
        pattern: regular expression of all of the text.
        words: words for such a text, for messages.
    """
    whole = rf"\A(?:{pattern})\Z"
    _PATTERNS[f"a text matching regex {whole!r}"] = words
    return Meta(pattern=whole)


def show(value: object) -> str:
    """A value in a message: on one line, and short."""
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return "an integer of more than 64 bits"
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except ValueError:  # an integer of thousands of digits inside
        return f"a {type(value).__name__}"
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 3]}..."


def name_place(place: Place) -> str:
    """A place in a message, such as ``contract.size`` or ``batch[2]``."""
    parts: list[str] = []
    while place is not None:
        place, key = place
        parts.append(f"[{key}]" if isinstance(key, int) else f".{key if key.isprintable() else ascii(key)}")
    return _shorten("".join(reversed(parts)))


def reword(message: str, values: Any, kind: Any) -> str:
    """What msgspec says, with the value that it says it of and the values that there could be.

    Args:
        message: text of a ``msgspec.ValidationError``.
        values: values that were converted.
        kind: type that they were to have.
    """
    what, _, at = message.partition(" - at ")
    path = at.strip("`").rpartition("$")[2]
    what = re.sub("`([^`]*)`", lambda match: " or ".join(_KINDS.get(k, k) for k in match[1].split(" | ")), what)
    for pattern, words in _PATTERNS.items():
        what = what.replace(pattern, words)
    if what.startswith("Object missing required field"):
        return f"{_shorten(path)} has no {what.rpartition(' ')[2]}"
    if what.startswith("Invalid enum value") and (allowed := list(_allowed(inspect.type_info(kind), path, at))):
        what = f"Expected {' or '.join(filter(None, [', '.join(allowed[:-1]), allowed[-1]]))}"
    what = what[:1].lower() + what[1:]
    if at.startswith("`key`"):
        return f"a key of {_shorten(path)}: {what}"
    if "[...]" in path:
        return f"{_shorten(path)}: {what}"
    return f"{_shorten(path)} is {show(_look_up(values, path))}, {what.partition(', got ')[0]}"


def describe_difference(values: Any, made: Any, place: str = "", *, defaults: bool, others: bool) -> str:
    """A key or an entry that only one of the two has, though it may not; empty where there is none.

    Args:
        values: plain values of a file.
        made: plain values of what was made of them.
        place: place where both stand, as in ``.contract.size``.
        defaults: whether keys may be missing in ``values``.
        others: whether there may be other keys and entries in ``values``.
    """
    if isinstance(values, Mapping) and isinstance(made, Mapping):
        unknown = [] if others else [key for key in values if key not in made]
        if unknown:
            where = f"{_shorten(place)} has the " if place else ""
            return f"{where}unknown key {show(unknown[0])}; known are {', '.join(sorted(map(str, made)))}"
        missing = [] if defaults else [key for key in made if key not in values]
        if missing:
            return f"{_shorten(place)} has no {missing[0]}"
        inner = [(values[key], made[key], f"{place}.{key}") for key in values if key in made]
    elif isinstance(values, list | tuple) and isinstance(made, list | tuple):
        if len(values) != len(made) and not others:
            return f"{_shorten(place)} has {len(values)} entries, expected {len(made)}"
        inner = [(one, other, f"{place}[{at}]") for at, (one, other) in enumerate(zip(values, made, strict=False))]
    else:
        return ""
    return next(filter(None, (describe_difference(*pair, defaults=defaults, others=others) for pair in inner)), "")


def _shorten(path: str) -> str:
    """A place in a message; what has no name is the file itself."""
    path = path.removeprefix(".")
    if not path:
        return "its content"
    return path if len(path) <= _MOST_LETTERS else f"...{path[3 - _MOST_LETTERS :]}"


def _look_up(values: Any, path: str) -> Any:
    for name, index in re.findall(r"\.([^.\[]+)|\[(\d+)\]", path):
        values = values[name] if name else values[int(index)]
    return values


def _allowed(kind: inspect.Type, path: str, at: str) -> Iterator[str]:
    """The values that there could be at a place, as texts."""
    if isinstance(kind, inspect.UnionType):
        for one in kind.types:
            yield from _allowed(one, path, at)
    elif path:
        head, rest = re.match(r"(\.[^.\[]+|\[[^\]]*\])(.*)", path, re.DOTALL).groups()  # type: ignore[union-attr]  # msgspec's own words
        for one in _inside(kind, head):
            yield from _allowed(one, rest, at)
    elif at.startswith("`key`"):
        yield from _allowed(kind.key_type, "", "") if isinstance(kind, inspect.DictType) else ()
    elif isinstance(kind, inspect.LiteralType):
        yield from map(str, kind.values)
    elif isinstance(kind, inspect.EnumType):
        yield from (str(member.value) for member in kind.cls)


def _inside(kind: inspect.Type, head: str) -> list[inspect.Type]:
    if isinstance(kind, inspect.DataclassType | inspect.TypedDictType | inspect.StructType):
        return [field.type for field in kind.fields if f".{field.encode_name}" == head]
    if isinstance(kind, inspect.TupleType):
        return [kind.item_types[int(head[1:-1])]]
    if isinstance(kind, inspect.DictType):
        return [kind.value_type]
    return [kind.item_type] if isinstance(kind, inspect.VarTupleType | inspect.ListType) else []
