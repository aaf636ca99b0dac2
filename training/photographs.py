"""The photographs that the demo learns from and is tested on: those that ship in scikit-image and scikit-learn.

Only files inside the installed packages are read; scikit-image would download others.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfm_deploy.errors import UnavailableError, missing_library
from lfm_deploy.pictures.photographs import load_photographs

# Split by photograph, so that no tile of a test photograph was ever trained on; the two views of one motorcycle stay on
# one side. Left out are the pictures that were enlarged after they were taken, so that they carry the very trace that
# the demo calls fake: moon.png (each 2x2 block has one colour) and retina.jpg (neighbours differ by 0.8 on average).
TRAINING_PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "grass.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "rocket.jpg",
    "china.jpg",
)
VALIDATION_PHOTOGRAPHS = ("coins.png",)
TEST_PHOTOGRAPHS = ("camera.png", "chelsea.png", "coffee.png", "gravel.png", "flower.jpg")
_SCIKIT_LEARN = {"china.jpg": 0, "flower.jpg": 1}


def load_named(name: str) -> NDArray[np.uint8]:
    """One photograph by file name, uint8 ``(H, W, 3)``, RGB; greyscale ones have three equal channels.

    Raises:
        UnavailableError: scikit-image is not installed, or does not ship this file.
    """
    if name in _SCIKIT_LEARN:
        return load_photographs()[_SCIKIT_LEARN[name]]
    try:
        import skimage
    except ImportError as error:
        raise missing_library(error, "the photographs of scikit-image", "pip install lfm-deploy[demo]") from None
    path = Path(skimage.__file__).parent / "data" / name
    if not path.is_file():
        raise UnavailableError(
            f"this scikit-image does not ship the photograph {name}; run 'pip install scikit-image==0.26.0'"
        )
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
