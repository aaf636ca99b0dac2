"""Pictures of portrait and other shapes whose resized pixels are known. With Pillow 12 it makes the hashes:

pip install "pillow<13" numpy && python tests/portraits.py
"""

import hashlib

import numpy as np
from PIL import Image

# (width, height) of a picture, and (width, height) to resize it to; Pillow 13 takes the height first in the first five.
SHAPES = [
    ((375, 500), (256, 256)),
    ((321, 481), (256, 256)),
    ((260, 900), (256, 256)),
    ((255, 700), (256, 256)),
    ((100, 2000), (256, 256)),
    ((256, 1024), (256, 128)),
    ((500, 375), (256, 256)),
    ((512, 512), (256, 256)),
    ((180, 180), (256, 256)),
    ((256, 600), (256, 256)),
    ((600, 256), (256, 256)),
    ((3, 1), (256, 256)),
]


def make_picture(width: int, height: int) -> Image.Image:
    """Noise over a gradient, the same with every version of every library: whole numbers alone."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3].astype(np.uint64)
    noise = (x * 2654435761 + y * 40503 + c * 97) * 2246822519 >> np.uint64(13)
    return Image.fromarray(((noise % 160) + (x + 2 * y + 50 * c) % 96).astype(np.uint8))


def digest(picture: Image.Image) -> str:
    """SHA-256 of the pixels, its first 16 hex digits."""
    return hashlib.sha256(picture.tobytes()).hexdigest()[:16]


if __name__ == "__main__":
    for name in ("BILINEAR", "BICUBIC", "LANCZOS"):
        print(name, [digest(make_picture(*was).resize(to, Image.Resampling[name])) for was, to in SHAPES])
