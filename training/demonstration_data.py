"""The demo's data: tiles of photographs, and the same tiles passed through the ways in which generators up-sample."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfm_deploy.pictures.photographs import cut_tiles
from training.augmentation import Augmentation, augment
from training.data import DEPLOYED_SIDE, DataSplit
from training.photographs import TEST_PHOTOGRAPHS, TRAINING_PHOTOGRAPHS, VALIDATION_PHOTOGRAPHS, load_named
from training.upsampling import UPSAMPLERS

REAL, FAKE = 0, 1
_VALIDATION_TILES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledTiles:
    """Pictures in memory, to learn from or to validate on.

    Attributes:
        images: uint8 ``(N, S, S, 3)``.
        labels: int64 ``(N,)``; 0 is real, 1 is fake.
        augmentation: changes that are made to training pictures.
        unreadable: empty list; tiles in memory can always be read.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    augmentation: Augmentation = field(default_factory=Augmentation)
    unreadable: dict[str, str] = field(default_factory=dict)

    def read(self, index: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Picture ``index``, augmented: uint8 ``(crop, crop, 3)``."""
        return augment(self.images[index], rng, self.augmentation)

    def read_batches(self, rows: Sequence[int], batch: int) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
        """These pictures in batches, with their numbers."""
        for start in range(0, len(rows), batch):
            chosen = list(rows[start : start + batch])
            yield chosen, self.images[chosen]


def make_demonstration_split(tiles: int, augmentation: Augmentation, seed: int) -> DataSplit:
    """Tiles to learn from, and tiles of a photograph that is neither learnt from nor tested on, to validate on.

    Args:
        tiles: number of tiles of each training photograph.
        augmentation: changes that are made to the training tiles; its crop is their side.
        seed: seed of the random kernels.
    """
    training = make_training_tiles(tiles=tiles, side=augmentation.crop, seed=seed, augmentation=augmentation)
    real = np.concatenate(
        [
            cut_tiles(load_named(name), DEPLOYED_SIDE, DEPLOYED_SIDE, _VALIDATION_TILES)
            for name in VALIDATION_PHOTOGRAPHS
        ]
    )
    validation = _with_fakes(real, np.random.default_rng([seed, 3]))
    digest = hashlib.sha256()
    for part in (training, validation):
        digest.update(part.images.tobytes() + part.labels.tobytes())
    return DataSplit(training=training, validation=validation, sha256=digest.hexdigest())


def make_training_tiles(*, tiles: int, side: int, seed: int, augmentation: Augmentation | None = None) -> LabelledTiles:
    """Real tiles of the training photographs, and as many fakes, up-sampled in turn by each way.

    Args:
        tiles: number of tiles of each photograph.
        side: side of a tile in pixels, even.
        seed: seed of the random kernels; the same seed gives the same pixels.
        augmentation: changes that are made to the tiles later.
    """
    real = np.concatenate([cut_tiles(load_named(name), side, side, tiles) for name in TRAINING_PHOTOGRAPHS])
    return _with_fakes(real, np.random.default_rng([seed, 0]), augmentation)


def write_test_tiles(folder: Path, *, tiles: int, seed: int) -> None:
    """Write the held-out pictures: ``<folder>/<way>/{0_real,1_fake}/NAME.png``, 256x256, one test set for each way.

    Args:
        folder: folder to write into.
        tiles: number of real tiles of each test photograph; there are as many fake ones.
        seed: seed of the random kernels, which are other ones than in training.
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
        folder: folder to write into.
        tiles: number of real tiles of each training photograph; there are as many fake ones, up-sampled in turn by each
            way.
        seed: seed of the random kernels, which are other ones than in training and testing.
    """
    rng = np.random.default_rng([seed, 2])
    ways = list(UPSAMPLERS.values())
    for name in TRAINING_PHOTOGRAPHS:
        for index, tile in enumerate(cut_tiles(load_named(name), DEPLOYED_SIDE, DEPLOYED_SIDE, tiles)):
            home, file = folder / Path(name).stem, f"{index:02}.png"
            _write(home / "0_real" / file, tile)
            _write(home / "1_fake" / file, ways[index % len(ways)](tile, rng))


def _with_fakes(
    real: NDArray[np.uint8], rng: np.random.Generator, augmentation: Augmentation | None = None
) -> LabelledTiles:
    """Real tiles ``(N, S, S, 3)``, and as many fakes of them, up-sampled in turn by each way."""
    ways = list(UPSAMPLERS.values())
    fake = np.stack([ways[index % len(ways)](tile, rng) for index, tile in enumerate(real)])
    labels = np.repeat(np.array([REAL, FAKE], dtype=np.int64), len(real))
    images = np.concatenate([real, fake])
    return LabelledTiles(images=images, labels=labels, augmentation=augmentation or Augmentation(crop=real.shape[1]))


def _write(path: Path, picture: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, compress_level=1)  # two fifths of the usual 6's time
