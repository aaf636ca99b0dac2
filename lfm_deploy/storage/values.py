"""Values that are read back: one way for every file, so that what cannot have been written is refused in one line.

A text is bounded in size and in nesting before it is parsed. Parsed values are plain and finite, integers have 64 bits,
no key comes twice. Then they are held against a type: dataclasses, typed dicts and enums, with ``Annotated[int,
Meta(ge=1)]`` for bounds; every key of it must be there, and no other.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec
from msgspec import Meta

from lfm_deploy.errors import ArtifactError, DeployError, first_line
from lfm_deploy.storage.complaints import Place, describe_difference, matching, name_place, reword, show
from lfm_deploy.storage.nesting import MOST_LEVELS, find_json_fault, find_toml_fault
from lfm_deploy.storage.text import decode_text

T = TypeVar("T")

Sha256 = Annotated[str, matching("[0-9a-f]{64}", "64 hexadecimal digits")]
"""SHA-256 in hexadecimal."""
Share = Annotated[float, Meta(ge=0, le=1)]
"""A share, in [0, 1]."""
Count = Annotated[int, Meta(ge=0)]
"""How many; also bytes."""
Positive = Annotated[int, Meta(ge=1)]
"""How many, at least one."""
NotNegative = Annotated[float, Meta(ge=0)]
AboveZero = Annotated[float, Meta(gt=0)]
"""A number of 0 or more."""

# Hundreds of times what this project writes; memory while parsing stays below 1 GiB.
MOST_JSON_BYTES = 16 << 20
MOST_TOML_BYTES = 64 << 10
_MOST_VALUES = 2_000_000
_INT64 = 1 << 63
_TOO_LONG = "integer string conversion"  # of Python's own words, which end in advice for programmers


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads the values of one file; whatever it refuses names the file, the field and what to do next.

    Attributes:
        where: name of the file, for messages.
        remedy: words for what to do next, such as ``"run 'lfm-deploy build' again"``; empty for part of a message.
        error: class of the error that is raised.
    """

    where: str
    remedy: str
    error: type[DeployError] = ArtifactError

    def refuse(self, what: str) -> NoReturn:
        """Raise the error: what is wrong, in this file, and what to do next."""
        raise self.error("; ".join(filter(None, [f"{self.where}: {what}", self.remedy])))

    def read_text(self, path: Path, most_bytes: int = MOST_JSON_BYTES) -> str:
        """The text of a file, in UTF-8, or in UTF-16 with a byte order mark.

        Args:
            path: path of the file.
            most_bytes: largest size in bytes that such a file can have.

        Raises:
            DeployError: the file cannot be read, is too large or no text; of the reader's class.
        """
        try:
            with path.open("rb") as file:
                content = file.read(most_bytes + 1)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            self.refuse(f"cannot be read ({getattr(error, 'strerror', None) or error})")
        if len(content) > most_bytes:
            self.refuse(f"larger than {most_bytes >> 10} KiB, which no such file is")
        try:
            return decode_text(content)
        except UnicodeDecodeError as error:
            self.refuse(f"not text in UTF-8 ({error.reason} at byte {error.start})")

    def read_json(self, path: Path, most_bytes: int = MOST_JSON_BYTES) -> Any:
        """The values of a JSON file, as ``parse_json`` gives them; see ``read_text`` for the arguments and errors."""
        return self.parse_json(self.read_text(path, most_bytes))

    def parse_json(self, text: str) -> Any:
        """Plain values of a text in JSON.

        Raises:
            DeployError: the text is not JSON or too deep, a key comes twice, or a value is refused by ``check_plain``.
        """
        values = self._parse("damaged, not JSON", text, find_json_fault, _load_json)
        self.check_plain(values)
        return values

    def parse_toml(self, text: str) -> dict[str, Any]:
        """Plain values of a text in TOML.

        Raises:
            DeployError: the text is not TOML or too deep, or a value is refused by ``check_plain``.
        """
        import tomllib

        values: dict[str, Any] = self._parse("not TOML", text, find_toml_fault, tomllib.loads)
        self.check_plain(values)
        return values

    def check_plain(self, values: Any) -> None:
        """Refuse what no file of this project says, wherever it stands.

        Args:
            values: values as a parser or ``torch.load`` gives them; they may hold themselves.

        Raises:
            DeployError: a number is not finite or an integer beyond 64 bits, a text is no Unicode, a key is no text, a
                value is of another kind, or there are too many or too deep.
        """
        left = _MOST_VALUES
        stack: list[tuple[Any, int, Place]] = [(values, 0, None)]
        while stack:
            value, level, place = stack.pop()
            left -= 1
            if fault := _find_fault(value):
                self.refuse(f"{name_place(place)} {fault}")
            if isinstance(value, dict):
                for key in value:
                    if not isinstance(key, str) or _find_fault(key):
                        self.refuse(f"{name_place(place)} has the key {show(key)}, which is no text")
                inner = [(item, level + 1, (place, key)) for key, item in value.items()]
            elif isinstance(value, list | tuple):
                inner = [(item, level + 1, (place, index)) for index, item in enumerate(value)]
            else:
                continue
            if level >= MOST_LEVELS or len(inner) > left:
                self.refuse(f"{name_place(place)} holds too much, or too deep")
            stack += inner

    def take_format(self, values: Any, *known: str) -> str:
        """Take the key ``format`` out of a file's values.

        Args:
            values: values of the file; a dict loses the key.
            known: formats that can be read, the newest first.

        Raises:
            DeployError: the format is another one, or there is none.
        """
        found = values.pop("format", None) if isinstance(values, dict) else None
        if not isinstance(found, str) or found not in known:
            self.refuse(f"of format {show(found)}, this version of lfm-deploy reads {known[0]!r}")
        return found

    def convert(self, values: Any, kind: type[T], *, defaults: bool = False, others: bool = False) -> T:
        """Hold plain values against a type.

        Args:
            values: values from ``parse_json`` or ``parse_toml``.
            kind: type that they must have.
            defaults: whether keys that have a default may be missing.
            others: whether there may be keys that the type does not know.

        Raises:
            DeployError: a key is missing or unknown, or a value is of another type or out of bounds.
        """
        try:
            made: T = msgspec.convert(values, kind)
        except msgspec.ValidationError as error:
            self.refuse(reword(str(error), values, kind))
        except DeployError as error:  # of a __post_init__
            self.refuse(str(error))
        if fault := describe_difference(values, msgspec.to_builtins(made), defaults=defaults, others=others):
            self.refuse(fault)
        return made

    def _parse(self, kind: str, text: str, find_fault: Callable[[str], str], parse: Callable[[str], T]) -> T:
        if fault := find_fault(text):
            self.refuse(fault)
        try:
            return parse(text)
        except (ValueError, RecursionError) as error:
            said = first_line(error)
            self.refuse(f"{kind} ({'an integer of thousands of digits' if _TOO_LONG in said else said})")


def _load_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {show(next(key for key in keys if keys.count(key) > 1))} comes twice")
    return values


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _find_fault(value: Any) -> str:
    """What no file says, of one value; empty where nothing is wrong."""
    if value is None or isinstance(value, bool | dict | list | tuple):
        return ""
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"is {value}, expected a finite number"
    if isinstance(value, int):
        return "" if -_INT64 <= value < _INT64 else "is an integer of more than 64 bits"
    if not isinstance(value, str):
        return f"is a {type(value).__name__}, expected a number, text, list or table"
    return "" if value.isascii() or not re.search("[\ud800-\udfff]", value) else "is no text (half a character)"
