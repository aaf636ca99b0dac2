"""The demo's data: tiles of photographs, and the same tiles passed through the ways in which generators up-sample."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfm_deploy.photographs import cut_tiles
from training.photographs import TEST_PHOTOGRAPHS, TRAINING_PHOTOGRAPHS, load_named
from training.upsampling import UPSAMPLERS

REAL, FAKE = 0, 1
DEPLOYED_SIDE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledTiles:
    """Pictures in memory.

    Attributes:
        images: uint8 ``(N, S, S, 3)``.
        labels: int64 ``(N,)``; 0 is real, 1 is fake.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def make_training_tiles(*, tiles: int, side: int, seed: int) -> LabelledTiles:
    """Real tiles of the training photographs, and as many fakes, up-sampled in turn by each way.

    Args:
        tiles: of each photograph.
        side: of a tile in pixels, even.
        seed: of the random kernels; the same seed gives the same pixels.
    """
    real = np.concatenate([cut_tiles(load_named(name), side, side, tiles) for name in TRAINING_PHOTOGRAPHS])
    rng = np.random.default_rng([seed, 0])
    ways = list(UPSAMPLERS.values())
    fake = np.stack([ways[index % len(ways)](tile, rng) for index, tile in enumerate(real)])
    labels = np.repeat(np.array([REAL, FAKE], dtype=np.int64), len(real))
    return LabelledTiles(images=np.concatenate([real, fake]), labels=labels)


def write_test_tiles(folder: Path, *, tiles: int, seed: int) -> None:
    """Write the held-out pictures: ``<folder>/<way>/{0_real,1_fake}/NAME.png``, 256x256, one test set for each way.

    Args:
        folder: to write into.
        tiles: of each test photograph, real, and as many fake ones.
        seed: of the random kernels, which are other ones than in training.
    """
    for way, upsample in UPSAMPLERS.items():
        rng = np.random.default_rng([seed, 1])
        for name in TEST_PHOTOGRAPHS:
            for index, tile in enumerate(cut_tiles(load_named(name), DEPLOYED_SIDE, DEPLOYED_SIDE, tiles)):
                file = f"{Path(name).stem}_{index:02}.png"
                _write(folder / way / "0_real" / file, tile)
                _write(folder / way / "1_fake" / file, upsample(tile, rng))


def write_calibration_tiles(folder: Path, *, tiles: int, seed: int) -> None:
    """Write pictures to calibrate on: ``<folder>/<photograph>/{0_real,1_fake}/NAME.png``, 256x256.

    They are of the training photographs, so that nothing that is tested on takes part.

    Args:
        folder: to write into.
        tiles: of each training photograph, real, and as many fake ones, up-sampled in turn by each way.
        seed: of the random kernels, which are other ones than in training and testing.
    """
    rng = np.random.default_rng([seed, 2])
    ways = list(UPSAMPLERS.values())
    for name in TRAINING_PHOTOGRAPHS:
        for index, tile in enumerate(cut_tiles(load_named(name), DEPLOYED_SIDE, DEPLOYED_SIDE, tiles)):
            home, file = folder / Path(name).stem, f"{index:02}.png"
            _write(home / "0_real" / file, tile)
            _write(home / "1_fake" / file, ways[index % len(ways)](tile, rng))


def _write(path: Path, picture: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
