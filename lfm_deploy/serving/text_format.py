"""Values as the text format of protocol buffers, in which Triton's configurations are written."""

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any


def write_text_format(message: Mapping[str, Any]) -> str:
    """The text of a message.

    Args:
        message: fields by name: a string, a number, a truth value, a ``StrEnum`` for a name without quotes, a mapping
            for a message inside, or a sequence of any of these for a repeated field.
    """
    return "".join(f"{line}\n" for line in _write_fields(message, ""))


def _write_fields(message: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, value in message.items():
        if isinstance(value, Mapping):
            yield from _write_message(name, value, indent)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            if value and isinstance(value[0], Mapping):
                for part in value:
                    yield from _write_message(name, part, indent)
            else:
                yield f"{indent}{name}: [{', '.join(_write_scalar(part) for part in value)}]"
        else:
            yield f"{indent}{name}: {_write_scalar(value)}"


def _write_message(name: str, message: Mapping[str, Any], indent: str) -> Iterator[str]:
    yield f"{indent}{name} {{"
    yield from _write_fields(message, f"{indent}  ")
    yield f"{indent}}}"


def _write_scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, StrEnum):
        return str(value)
    # Escapes of JSON are escapes of this format too, as long as everything is ASCII.
    return json.dumps(value)
