"""How strongly a JPEG was compressed, from its quantisation tables: its encoder's setting leaves no other trace."""

import io
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from PIL import Image

Tables = tuple[tuple[int, ...], ...]


def estimate_quality(tables: Mapping[int, Sequence[int]]) -> tuple[int, bool]:
    """The quality of the standard tables that are nearest, 1 to 100, and whether they are the very same.

    Cameras and editors have tables of their own; theirs is the quality at which libjpeg would round brightness alike.

    Args:
        tables: steps of each quantisation table, 64 of them, by its number as Pillow has it; 0 is for brightness.
    """
    found = tuple(tuple(int(step) for step in table) for _, table in sorted(tables.items()))
    for quality, standard in enumerate(standard_tables(), 1):
        if found in (standard, standard[:1]):
            return quality, True
    steps = np.log([standard[0] for standard in standard_tables()])
    distances = np.abs(steps - np.log(np.maximum(found[0], 1))).mean(axis=1)
    return int(distances.argmin()) + 1, False


@cache
def standard_tables() -> tuple[Tables, ...]:
    """Tables for brightness and colour that libjpeg makes for each quality from 1 to 100."""
    tables = []
    for quality in range(1, 101):
        content = io.BytesIO()
        Image.new("RGB", (8, 8)).save(content, "JPEG", quality=quality)
        with Image.open(content) as picture:
            quantization: dict[int, list[int]] = picture.quantization  # type: ignore[attr-defined]  # of JPEG alone
            tables.append(tuple(tuple(table) for _, table in sorted(quantization.items())))
    return tuple(tables)
