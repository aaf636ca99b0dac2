"""A table of a detector's TOML file, every value of which is checked where it is taken."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from lfm_deploy.errors import DetectorError

Triple = tuple[float, float, float]
_T = TypeVar("_T")


class TomlTable:
    """A table of the file; every value that is taken from it is checked, and named in what is refused."""

    def __init__(self, values: Mapping[str, Any], path: Path, name: str, known: Sequence[str]) -> None:
        """Refuse keys that no detector has.

        Args:
            values: values of the table, as ``tomllib`` reads them.
            path: path of the file, for messages.
            name: name of the table, for messages; empty for the top of the file.
            known: keys that the table may have.

        Raises:
            DetectorError: the table has another key.
        """
        self._values, self._path, self._name = values, path, name
        for key in values:
            if key not in known:
                self.refuse(key, f"is not a key; known are {', '.join(known)}")

    def refuse(self, key: str, why: str) -> NoReturn:
        """Raise a DetectorError that names file, table and key, and says why."""
        where = f"[{self._name}] {key}" if self._name else key
        raise DetectorError(f"{self._path}: {where} {why}")

    def has(self, key: str) -> bool:
        """Whether the file gives a key."""
        return key in self._values

    def require(self, key: str, value: _T | None, allowed: str = "") -> _T:
        """A value that must be there; ``allowed`` says what is expected. DetectorError where it is None."""
        if value is None:
            self.refuse(key, f"is missing; {f'expected {allowed}' if allowed else 'every detector needs it'}")
        return value

    def refuse_without_effect(self, keys: Sequence[str], why: str) -> None:
        """Raise a DetectorError where one of the keys is given, which would mean nothing; ``why`` says when."""
        for key in keys:
            if self.has(key):
                self.refuse(key, f"has no effect {why}; remove it")

    def table(self, key: str, known: Sequence[str]) -> "TomlTable":
        """A table inside this one, with the keys that it may have. DetectorError where it is missing."""
        value = self._take(key, dict, "a table")
        return TomlTable(self.require(key, value, f"a table [{key}]"), self._path, key, known)

    def text(self, key: str) -> str | None:
        """Text on one line, None where the key is missing. DetectorError where it is no such text."""
        value: str | None = self._take(key, str, "text")
        if value is not None and not (value.strip() and value.isprintable()):
            self.refuse(key, f"is {value!r}, expected text on one line that is not empty")
        return value

    def choice(self, key: str, allowed: Sequence[str]) -> str | None:
        """One of the allowed texts, None where the key is missing. DetectorError where it is another."""
        value: str | None = self._take(key, str, _either(allowed))
        if value is not None and value not in allowed:
            self.refuse(key, f"is {value!r}, expected {_either(allowed)}")
        return value

    def required_choice(self, key: str, allowed: Sequence[str]) -> str:
        """One of the allowed texts. DetectorError where it is another, or the key is missing."""
        return self.require(key, self.choice(key, allowed), _either(allowed))

    def whole(self, key: str, least: int, most: int) -> int | None:
        """A whole number from ``least`` to ``most``, None where the key is missing. DetectorError where it is none."""
        wanted = f"a whole number from {least} to {most}"
        value: int | None = self._take(key, int, wanted)
        if value is not None and not least <= value <= most:
            self.refuse(key, f"is {value}, expected {wanted}")
        return value

    def number(self, key: str) -> float | None:
        """A finite number, None where the key is missing. DetectorError where it is none."""
        value: float | None = self._take(key, (int, float), "a number")
        if value is not None and not math.isfinite(value):
            self.refuse(key, f"is {value}, expected a finite number")
        return None if value is None else float(value)

    def triple(self, key: str) -> Triple | None:
        """Three finite numbers, None where the key is missing. DetectorError where it is something else."""
        wanted = "three finite numbers, one a channel, as in [0.5, 0.5, 0.5]"
        values: list[Any] | None = self._take(key, list, wanted)
        if values is None:
            return None
        if len(values) != 3 or not all(type(value) in (int, float) and math.isfinite(value) for value in values):
            self.refuse(key, f"is {values}, expected {wanted}")
        return float(values[0]), float(values[1]), float(values[2])

    def _take(self, key: str, kind: type | tuple[type, ...], wanted: str) -> Any:
        value = self._values.get(key)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            self.refuse(key, f"is {value!r}, expected {wanted}")
        return value


def _either(allowed: Sequence[str]) -> str:
    return ", ".join(allowed[:-1]) + f" or {allowed[-1]}"
