"""Tiny training data on the disk, for tests of training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def write_noise(root: Path, categories: Sequence[str] = ("noise",), train: int = 8, val: int = 2) -> Path:
    """ForenSynths layout with ``train`` and ``val`` pictures of each class: noise is real, noise in 2x2 blocks fake."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for category in categories:
            for label, blocks in (("0_real", 1), ("1_fake", 2)):
                home = root / split / category / label
                home.mkdir(parents=True)
                for index in range(count):
                    small = rng.integers(0, 256, (40 // blocks, 40 // blocks, 3), dtype=np.uint8)
                    picture = small.repeat(blocks, axis=0).repeat(blocks, axis=1)
                    Image.fromarray(picture).save(home / f"{index}.png")
    return root
