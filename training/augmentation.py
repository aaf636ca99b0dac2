"""What is done to a training picture after it was resized: blur, JPEG, crop, mirror; each from the picture's own draws.

The order is that of CNNDetection, whose protocol the paper takes over. Blur and JPEG are off by default, as in the
paper. A crop may start at odd pixels, which shifts the 2x2 blocks that NPR compares: so it is in the published code.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from lfm_deploy.errors import ConfigError

_LARGEST_SIGMA = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Which changes, and how often.

    Attributes:
        crop: side of the square that is cut out at a random place, in pixels, even.
        flip: probability of mirroring left to right.
        blur: probability of a Gaussian blur.
        blur_sigma: lowest and highest standard deviation in pixels, drawn evenly between them.
        jpeg: probability of compressing and decompressing.
        jpeg_quality: lowest and highest quality of Pillow's encoder, whole numbers drawn evenly, both included.
    """

    crop: int = 224
    flip: float = 0.5
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.0, 3.0)
    jpeg: float = 0.0
    jpeg_quality: tuple[int, int] = (30, 100)

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.crop < 2 or self.crop % 2:
            raise ConfigError(f"crop is {self.crop}, expected an even number of pixels (NPR compares 2x2 blocks)")
        for name in ("flip", "blur", "jpeg"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected a probability from 0 to 1")
        if not 0 <= self.blur_sigma[0] <= self.blur_sigma[1] <= _LARGEST_SIGMA:
            raise ConfigError(f"blur_sigma is {list(self.blur_sigma)}, expected two ascending numbers of pixels")
        if not 1 <= self.jpeg_quality[0] <= self.jpeg_quality[1] <= 100:
            raise ConfigError(f"jpeg_quality is {list(self.jpeg_quality)}, expected two ascending numbers, 1 to 100")


def augment(picture: NDArray[np.uint8], rng: np.random.Generator, config: Augmentation) -> NDArray[np.uint8]:
    """Change one picture; the generator alone decides how.

    Args:
        picture: uint8 ``(H, W, 3)``, both sides at least the crop's.
        rng: random generator of this picture.
        config: changes that may be made, with their probabilities.

    Returns:
        uint8 ``(crop, crop, 3)``, a new array.
    """
    # All draws are made in any case and in this order, so that switching one change on leaves the others as they were.
    blurred, compressed, mirrored, strength, down, right = rng.random(6).tolist()
    quality = int(rng.integers(config.jpeg_quality[0], config.jpeg_quality[1], endpoint=True))
    if blurred < config.blur:
        low, high = config.blur_sigma
        picture = _blurred(picture, low + strength * (high - low))
    if compressed < config.jpeg:
        picture = _compressed(picture, quality)
    top = int(down * (picture.shape[0] - config.crop + 1))
    left = int(right * (picture.shape[1] - config.crop + 1))
    picture = picture[top : top + config.crop, left : left + config.crop]
    return np.ascontiguousarray(picture[:, ::-1] if mirrored < config.flip else picture)


def _blurred(picture: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(sigma)))


def _compressed(picture: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as decoded:
        return np.asarray(decoded.convert("RGB"))
