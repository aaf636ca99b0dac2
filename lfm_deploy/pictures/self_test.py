"""Whether decoder and resize give the contract's pixels on this machine, tried once a process on tiny pictures.

The pictures ship with the package; ``make_samples.py`` made them and says which pixels they have. A format that is
decoded otherwise is refused where a picture of it turns up; as long as none does, it is worth a warning.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, features

from lfm_deploy.errors import DecoderError, ImageError
from lfm_deploy.pictures.opening import open_rgb
from lfm_deploy.pictures.pixel_limit import limit_pixels
from lfm_deploy.pictures.resizing import resize_picture

SAMPLES = Path(__file__).with_name("samples")
MANIFEST = "samples.json"
# Width and height, then those to resize to: a tall one, which shows the order of the passes, and one that grows.
RESIZES = (((40, 400), (24, 24)), ((90, 31), (48, 64)))
_REMEDY = "install Pillow's own wheel, with 'pip install --force-reinstall --only-binary :all: pillow'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A tiny picture that ships with the package.

    Attributes:
        name: name for people, such as ``"JPEG 4:2:0"``.
        file: name of the file in ``SAMPLES``.
        format: Pillow's name of its format.
        pixels: SHA-256 of its pixels by the contract's decoder, see ``digest_pixels``.
    """

    name: str
    file: str
    format: str
    pixels: str

    def read(self) -> bytes:
        """The bytes of the file."""
        return (SAMPLES / self.file).read_bytes()


def digest_pixels(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 in hex of shape and pixels, uint8 ``(H, W, 3)``."""
    return hashlib.sha256(f"{pixels.shape} ".encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


@cache
def load_samples() -> tuple[Sample, ...]:
    """The pictures that ship with the package."""
    return tuple(Sample(**values) for values in _manifest()["samples"])


@cache
def find_differences() -> dict[str, list[str]]:
    """What Pillow on this machine decodes to other pixels: names of samples, by format."""
    differ: dict[str, list[str]] = {}
    for sample in load_samples():
        if find_difference(sample, lambda content: np.asarray(open_rgb(content))) is not None:
            differ.setdefault(sample.format, []).append(sample.name)
    return differ


@cache
def resizes_otherwise() -> bool:
    """Whether Pillow on this machine resizes to other pixels."""
    return [digest_resize(*case) for case in RESIZES] != _manifest()["resizes"]


def find_difference(sample: Sample, decode: Callable[[bytes], NDArray[np.uint8] | None]) -> str | None:
    """How a decoder's pixels of a sample differ from the contract's; None where they are equal.

    Args:
        sample: picture to try.
        decode: function that returns uint8 ``(H, W, 3)``, or None where it cannot decode it.
    """
    try:
        with limit_pixels():  # a limit for this job's pictures says nothing of the decoder
            found = decode(sample.read())
    except ImageError as error:
        return str(error)
    if found is None:
        return "it cannot be decoded"
    return None if digest_pixels(found) == sample.pixels else "other pixels"


def digest_resize(size: tuple[int, int], to: tuple[int, int]) -> str:
    """SHA-256 in hex of pixels that were resized, of a picture that is computed.

    Args:
        size: width and height of the picture.
        to: width and height to resize to.
    """
    return digest_pixels(np.asarray(resize_picture(Image.fromarray(draw_pattern(*size)), *to)))


def draw_pattern(width: int, height: int) -> NDArray[np.uint8]:
    """Pixels uint8 ``(H, W, 3)`` that need no file: waves with noise in grey, edges in colour; whole numbers alone."""
    y, x = np.mgrid[:height, :width].astype(np.int64)
    noise = (x * 7919 + y * 104729 + x * y * 31) % 41
    waves = (x * x // 5 + y * y // 7) % 128 + (x // 8 + y // 8) % 2 * 60
    return np.stack([waves + noise, waves // 2 + (x * 9) % 90, (y * 11) % 200 + noise], axis=-1).astype(np.uint8)


def check_format(form: str | None) -> None:
    """Refuse a format whose pixels would be others than the contract's.

    Args:
        form: Pillow's name of the format; photographs of several frames (MPO) are JPEG.

    Raises:
        DecoderError: samples of this format are decoded otherwise.
    """
    differ = find_differences()
    form = "JPEG" if form == "MPO" else form
    if differ and form in differ:
        raise DecoderError(f"{form} is decoded to other pixels here than the contract's{_describe(differ[form])}")


def check_resize() -> None:
    """Refuse to resize where that would give other pixels than the contract's.

    Raises:
        DecoderError: the resize differs.
    """
    if resizes_otherwise():
        raise DecoderError(f"pictures are resized to other pixels here than the contract's{_describe([])}")


def describe_differences() -> list[str]:
    """Lines that warn of what is decoded or resized otherwise on this machine; empty where nothing is."""
    lines = [
        f"{form} is decoded to other pixels here{_describe(names)}; pictures of this format would be refused"
        for form, names in find_differences().items()
    ]
    if resizes_otherwise():
        lines.append(f"pictures are resized to other pixels here{_describe([])}; none would be judged at a fixed size")
    return lines


def describe_pillow() -> dict[str, str]:
    """Versions of what decodes and resizes, by name: other versions may give other pixels."""
    names = {"libjpeg-turbo": "libjpeg_turbo", "libwebp": "webp", "libavif": "avif", "openjpeg": "jpg_2000"}
    found = {name: features.version(feature) for name, feature in names.items()}
    return {"pillow": PIL.__version__} | {name: number for name, number in found.items() if number}


def _describe(names: list[str]) -> str:
    versions = describe_pillow()
    which = f" ({', '.join(names)})" if names else ""
    turbo = versions.get("libjpeg-turbo", "which is not libjpeg-turbo")
    return f"{which}, by Pillow {versions['pillow']} with libjpeg {turbo}; {_REMEDY}"


def _manifest() -> dict[str, list]:  # type: ignore[type-arg]
    values: dict[str, list] = json.loads((SAMPLES / MANIFEST).read_text())  # type: ignore[type-arg]
    return values
