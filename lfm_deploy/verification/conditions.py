"""What happens to pictures between the camera or the generator and the detector, as functions on pictures.

A condition takes the picture at its own size; what comes out is read as the contract says, like any other file.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import PIL
from PIL import Image, ImageFilter, features

from lfm_deploy.errors import ImageError
from lfm_deploy.pictures.decoding import read_rgb
from lfm_deploy.pictures.opening import MOST_PIXELS
from lfm_deploy.pictures.resizing import resize_picture

_JPEG: dict[str, Any] = {"format": "JPEG", "subsampling": "4:2:0"}
_WEBP: dict[str, Any] = {"format": "WEBP", "method": 4}
_SCREEN_FACTOR, _SCREEN_QUALITY = 0.8, 90


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that happens to a picture, the same every time.

    Attributes:
        name: short name, unique among conditions, such as ``"jpeg 90"``.
        what: line that says what is done, with every parameter.
        change: function from an RGB picture to a new one, of any size; None leaves the file alone.
    """

    name: str
    what: str
    change: Callable[[Image.Image], Image.Image] | None = None

    def apply(self, picture: Image.Image) -> Image.Image:
        """What becomes of a picture, which itself stays as it is.

        Args:
            picture: picture of mode RGB.

        Raises:
            ImageError: the condition cannot be applied to the picture; the message is the bare reason.
        """
        return picture if self.change is None else self.change(picture)

    def load(self, path: Path) -> Path | bytes:
        """What to decode in place of a picture's file: the file itself, or the changed picture as lossless bytes.

        Args:
            path: file of the picture.

        Raises:
            ImageError: the picture cannot be read, or the condition cannot be applied to it; the message is the bare
                reason.
        """
        if self.change is None:
            return path
        content = io.BytesIO()
        self.apply(read_rgb(path)).save(content, format="PPM")
        return content.getvalue()


AS_IS = Condition("as is", "the file as it is")


def standard_conditions(side: int = 256) -> tuple[Condition, ...]:
    """The conditions of an operating envelope, the file as it is first.

    Args:
        side: side in pixels of what the native crop leaves, which is the contract's size.
    """
    return (
        AS_IS,
        *(encode_jpeg(quality) for quality in (98, 95, 90, 75)),
        *(encode_webp(quality) for quality in (90, 75)),
        *(scale_by(factor) for factor in (0.5, 0.75, 1.5)),
        crop_to(side),
        blur_by(1),
        take_screenshot(),
    )


def encode_jpeg(quality: int) -> Condition:
    """One round trip through JPEG.

    Args:
        quality: Pillow's quality, 1 to 100.
    """
    what = f"saved once as JPEG of quality {quality}, 4:2:0"
    return Condition(f"jpeg {quality}", what, partial(_encode, options=_JPEG | {"quality": quality}))


def encode_webp(quality: int) -> Condition:
    """One round trip through lossy WebP.

    Args:
        quality: Pillow's quality, 0 to 100.
    """
    what = f"saved once as lossy WebP of quality {quality}"
    return Condition(f"webp {quality}", what, partial(_encode, options=_WEBP | {"quality": quality}))


def scale_by(factor: float) -> Condition:
    """Another size, before the detector's own resize.

    Args:
        factor: factor on width and height, above 0.
    """
    what = f"scaled by {factor:g}, bicubic with antialiasing, to even sides"
    return Condition(f"resize {factor:g}", what, partial(_scale, factor=factor, resample=Image.Resampling.BICUBIC))


def crop_to(side: int) -> Condition:
    """The middle of the picture at its own resolution, in place of the detector's resize.

    Args:
        side: side of the square in pixels.
    """
    what = f"the middle {side}x{side} pixels, in place of a resize"
    return Condition(f"crop {side}", what, partial(_crop, side=side))


def blur_by(sigma: float) -> Condition:
    """A Gaussian blur.

    Args:
        sigma: standard deviation in pixels.
    """
    # Pillow's radius is the standard deviation.
    blur = ImageFilter.GaussianBlur(sigma)
    what = f"Gaussian blur, sigma {sigma:g} pixel{'' if sigma == 1 else 's'}"
    return Condition(f"blur {sigma:g}", what, lambda picture: picture.filter(blur))


def take_screenshot() -> Condition:
    """A picture that was shown on a screen, captured there and sent on."""
    what = (
        f"shown at {_SCREEN_FACTOR:g} of its size (bilinear), captured, sent on as JPEG of quality {_SCREEN_QUALITY}, "
        "4:2:0"
    )
    return Condition("screenshot", what, _take_screenshot)


def describe_encoders() -> dict[str, str | None]:
    """Versions of what makes the changes: other versions may give other pixels. None is not there."""
    return {
        "pillow": PIL.__version__,
        "libjpeg-turbo": features.version("libjpeg_turbo"),
        "libjpeg": features.version("jpg"),
        "libwebp": features.version("webp"),
    }


def _encode(picture: Image.Image, options: dict[str, Any]) -> Image.Image:
    content = io.BytesIO()
    try:
        picture.save(content, **options)
    except (OSError, ValueError, KeyError) as error:  # a side beyond the format's limit, an encoder that is not there
        width, height = picture.size
        raise ImageError(f"{width}x{height} cannot be saved as {options['format']}: {error}") from None
    return read_rgb(content.getvalue())


def _scale(picture: Image.Image, factor: float, resample: Image.Resampling) -> Image.Image:
    width, height = picture.size
    if min(width, height) < 2:
        raise ImageError(f"{width}x{height} is too thin to be shown at another size")
    # NPR takes even sides alone, which matters where the contract has pictures as they are.
    new_width, new_height = (max(2, 2 * round(side * factor / 2)) for side in picture.size)
    if new_width * new_height > MOST_PIXELS:
        raise ImageError(f"{width}x{height} times {factor:g} is more than {MOST_PIXELS} pixels")
    return resize_picture(picture, new_width, new_height, resample)


def _crop(picture: Image.Image, side: int) -> Image.Image:
    width, height = picture.size
    if min(width, height) < side:
        raise ImageError(f"smaller than {side}x{side} pixels")
    left, top = (width - side) // 2, (height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def _take_screenshot(picture: Image.Image) -> Image.Image:
    shown = _scale(picture, _SCREEN_FACTOR, Image.Resampling.BILINEAR)
    return _encode(shown, _JPEG | {"quality": _SCREEN_QUALITY})
