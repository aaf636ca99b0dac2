"""Values that can't be, put into JSON and TOML: other types, no numbers, what is too long, deep or missing.

What is put in is never a sensible value of the same type: a reader either refuses the text, or answers as before.
"""

import copy
import json
import re
from random import Random
from typing import Any

from fuzzing.damage import damage

# What no library would write; a word of letters stands for it until the text is made.
_RAW = {
    "RAWNAN": "NaN",
    "RAWINFINITY": "Infinity",
    "RAWMINUSINFINITY": "-Infinity",
    "RAWHUGE": "9" * 5000,
    "RAWEXPONENT": "1e999",
    "RAWDEEP": "[" * 100_000 + "]" * 100_000,
    "RAWDEEPER": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "RAWSURROGATE": r'"\ud800"',
    "RAWLONG": '"' + "x" * 100_000 + '"',
    "RAWNUL": r'"a\u0000b"',
}
_NUMBERS = ("RAWNAN", "RAWINFINITY", "RAWMINUSINFINITY", "RAWHUGE", "RAWEXPONENT")
_ANY: tuple[Any, ...] = ("RAWDEEP", "RAWDEEPER", None, [], {}, "RAWSURROGATE", "RAWLONG", [None], {"a": 1})
_WORDS = {"RAWDEEP": "nested deep", "RAWDEEPER": "nested deep", "RAWHUGE": "a number of 5,000 digits"}


def spoil_json(rng: Random, values: Any, *, indent: int | None = 1) -> tuple[bytes, str]:
    """JSON text in which something cannot be, and what.

    Args:
        rng: source of chance.
        values: values of the whole file.
        indent: spaces of an indentation step, as the whole file has them.
    """
    text = json.dumps(values, indent=indent)
    choice = rng.random()
    if choice < 0.15:
        return damage(rng, text.encode())
    if choice < 0.22:
        return _spoil_text(rng, text)
    spoilt, what = spoil_values(rng, values)
    return to_json(spoilt, indent).encode("utf-8", "surrogatepass"), what


def spoil_values(rng: Random, values: Any) -> tuple[Any, str]:
    """A copy in which one value is missing, additional or of another kind, and what."""
    spoilt = copy.deepcopy(values)
    places = list(_places(spoilt, ()))
    path = rng.choice(places)
    holder = spoilt
    for key in path[:-1]:
        holder = holder[key]
    if not path:
        return rng.choice([None, [], 5, "text", "RAWDEEP", [values]]), "another top"
    where = ".".join(map(str, path))
    if isinstance(holder, dict) and rng.random() < 0.25:
        if rng.random() < 0.6:
            del holder[path[-1]]
            return spoilt, f"without {where}"
        holder[rng.choice(["unknown", "", "RAWLONG", "__class__", "self"])] = 1
        return spoilt, f"an unknown key beside {where}"
    before = holder[path[-1]]
    after = rng.choice(_others(before))
    holder[path[-1]] = after
    return spoilt, f"{where} is {_WORDS.get(after, after) if isinstance(after, str) else after!r}"


def to_json(values: Any, indent: int | None = 1) -> str:
    """JSON in which the words of ``_RAW`` have become what they stand for."""
    text = json.dumps(values, indent=indent)
    return re.sub(r'"(RAW[A-Z]+)"(?!:)', lambda found: _RAW[found[1]], text)


def to_toml(values: dict[str, Any]) -> str:
    """TOML of plain values and tables, also of values that cannot be."""
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    lines = [f"{_key(key)} = {_toml_value(value)}" for key, value in plain.items()]
    for key, table in values.items():
        if isinstance(table, dict):
            lines += [f"[{_key(key)}]", *(f"{_key(name)} = {_toml_value(value)}" for name, value in table.items())]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _toml_value(value: Any) -> str:
    toml = {"RAWNAN": "nan", "RAWINFINITY": "inf", "RAWMINUSINFINITY": "-inf", "RAWDEEPER": _RAW["RAWDEEP"]}
    if isinstance(value, str) and value in _RAW:
        return toml.get(value, _RAW[value])
    if value is None:
        return "1979-05-27"  # TOML has no null, but dates
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml_value(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(value)


def _others(value: Any) -> list[Any]:
    """Values that cannot stand where this one stands."""
    if isinstance(value, bool):
        return ["yes", 2, -1, 0.5, *_NUMBERS, *_ANY]
    if isinstance(value, int):
        return ["text", "5", 1.5, -1, -(2**63), 2**64, *_NUMBERS, *_ANY]
    if isinstance(value, float):
        return ["text", "0.5", *_NUMBERS, *_NUMBERS, *_ANY]
    if isinstance(value, str):
        return [5, 0.5, True, "no such word", "", f"{value}x", "RAWNUL", "\x00", *_ANY]
    if isinstance(value, list):
        shorter = value[:-1] if value else [1]
        return [5, "text", shorter, [*value, *value[:1], "more"], [value], *_NUMBERS[:1], *_ANY]
    if isinstance(value, dict):
        return [5, "text", [value], *_ANY]
    return [5, "text", 0.5, True, "RAWDEEP", "RAWHUGE", [], {}]


def _spoil_text(rng: Random, text: str) -> tuple[bytes, str]:
    kind = rng.randrange(7)
    if kind == 0:
        return b"\xef\xbb\xbf" + text.encode(), "a byte order mark"
    if kind == 1:
        return text.encode("utf-16"), "UTF-16"
    if kind == 2:
        return text.encode() + rng.choice([b"}", b"null", b"\0", text.encode()]), "more behind the end"
    if kind == 3:
        return text.replace('"', "'").encode(), "single quotes"
    if kind == 4:
        return text.encode().replace(b'"', b'"\xff', rng.randint(1, 3)), "no UTF-8"
    if kind == 5:
        return _RAW[rng.choice(["RAWDEEP", "RAWDEEPER"])].encode(), "nested deep"
    return rng.choice([b"", b"null", b"[]", b"{}", b"0", b'""', b" " * 1000, b"NaN"]), "nothing in it"


def _places(values: Any, path: tuple[Any, ...]) -> Any:
    """Paths of all values; of long lists a few, so that the rest is met too."""
    yield path
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _places(value, (*path, key))
    elif isinstance(values, list):
        for index, value in list(enumerate(values))[:2]:
            yield from _places(value, (*path, index))
