"""Real pixels that are on every machine: tiles of the photographs that ship in scikit-learn."""

import math
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfm_deploy.errors import ConfigError


@cache
def load_photographs() -> tuple[NDArray[np.uint8], ...]:
    """The two photographs of scikit-learn, each uint8 ``(427, 640, 3)``, RGB.

    Its files are read as ``sklearn.datasets.load_sample_images`` reads them, whose import takes a second.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
    folder = Path(found.origin).parent / "datasets" / "images"
    photographs = []
    for name in ("china.jpg", "flower.jpg"):
        with Image.open(folder / name) as image:
            photographs.append(np.asarray(image))
    return tuple(photographs)


def cut_tiles(photograph: NDArray[np.uint8], height: int, width: int, count: int) -> NDArray[np.uint8]:
    """``count`` tiles spread evenly over a photograph, uint8 ``(count, height, width, 3)``.

    Tiles overlap where the photograph is too small for as many as are asked for; none is the same as
    another as long as there are enough places for them.

    Raises:
        ConfigError: a tile is larger than the photograph.
    """
    free_rows, free_columns = photograph.shape[0] - height, photograph.shape[1] - width
    if free_rows < 0 or free_columns < 0:
        raise ConfigError(
            f"tiles of {width}x{height} do not fit into a photograph of "
            f"{photograph.shape[1]}x{photograph.shape[0]}; ask for smaller ones"
        )
    rows = min(max(1, round(math.sqrt(count * (free_rows + 1) / (free_columns + 1)))), count)
    columns = math.ceil(count / rows)
    corners = [
        (round(top), round(left))
        for top in np.linspace(0, free_rows, rows)
        for left in np.linspace(0, free_columns, columns)
    ]
    return np.stack([photograph[top : top + height, left : left + width] for top, left in corners[:count]])


def sample_tiles(height: int, width: int, count: int) -> NDArray[np.uint8]:
    """``count`` tiles of real photographs, uint8 ``(count, height, width, 3)``, the same on every call."""
    photographs = load_photographs()
    share = math.ceil(count / len(photographs))
    tiles = [cut_tiles(photograph, height, width, share) for photograph in photographs]
    return np.concatenate(tiles)[:count]
