"""Holds plain values to a type made of TypedDict, list, dict, Literal and unions, as the schemas of reports are."""

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict


def find_misfits(value: Any, wanted: Any, where: str = "it") -> list[str]:
    """Where a value is not of a type: what is missing, what is unknown, what is of another type; empty where it fits.

    JSON knows no tuples, so that a tuple is no list here. A whole number does for a float, and no bool for a number.
    """
    origin, arguments = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return []
    if is_typeddict(wanted):
        return _misfits_of_keys(value, wanted, where)
    if origin in (Union, UnionType):
        found = [find_misfits(value, argument, where) for argument in arguments]
        # Of what fits nowhere, the complaints about the alternative that comes nearest: the one that is not None.
        return [] if [] in found else next(
            (of for of, argument in zip(found, arguments, strict=True) if argument is not NoneType), found[0]
        )  # fmt: skip
    if origin is Literal:
        return [] if value in arguments else [f"{where} is {value!r}, not one of {arguments}"]
    if origin is list:
        if not isinstance(value, list):
            return [f"{where} is {type(value).__name__}, not list"]
        return [misfit for i, part in enumerate(value) for misfit in find_misfits(part, arguments[0], f"{where}[{i}]")]
    if origin is dict:
        if not isinstance(value, dict):
            return [f"{where} is {type(value).__name__}, not dict"]
        return [
            misfit
            for key, part in value.items()
            for misfit in find_misfits(key, arguments[0], f"a key of {where}")
            + find_misfits(part, arguments[1], f"{where}[{key!r}]")
        ]
    if wanted is None or wanted is NoneType:
        return [] if value is None else [f"{where} is {type(value).__name__}, not None"]
    fitting = (int, float) if wanted is float else wanted
    fits = isinstance(value, fitting) and (wanted is bool or not isinstance(value, bool))
    return [] if fits else [f"{where} is {type(value).__name__}, not {wanted.__name__}"]


def _misfits_of_keys(value: Any, wanted: Any, where: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where} is {type(value).__name__}, not {wanted.__name__}"]
    hints = get_type_hints(wanted)
    missing = [f"{where} lacks {key!r}" for key in sorted(wanted.__required_keys__ - value.keys())]
    unknown = [f"{where} has {key!r}, which {wanted.__name__} does not know" for key in value.keys() - hints.keys()]
    inside = [
        misfit
        for key, hint in hints.items()
        if key in value
        for misfit in find_misfits(value[key], hint, f"{where}[{key!r}]")
    ]
    return missing + unknown + inside
