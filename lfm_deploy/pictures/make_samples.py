"""Make the pictures of the self-test, with the digests of their pixels: ``python -m lfm_deploy.pictures.make_samples``.

Pixels are those of Pillow on the machine that this runs on, so run it where they are known to be right; the manifest
names the versions. Needs simplejpeg, for a JPEG whose chroma is halved in height alone, which Pillow does not write.
"""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lfm_deploy.pictures.opening import open_rgb
from lfm_deploy.pictures.self_test import (
    MANIFEST,
    RESIZES,
    SAMPLES,
    describe_pillow,
    digest_pixels,
    digest_resize,
    draw_pattern,
)

# Odd sides, so that the last row and column of the chroma stand for one row and column of pixels.
_WIDTH, _HEIGHT = 45, 37
_ORIENTATION, _TURNED = 0x0112, 6


def make_samples(folder: Path) -> None:
    """Write the pictures and the manifest into a folder.

    Args:
        folder: folder to write into; it is made where it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for name, file, form, content in _contents():
        (folder / file).write_bytes(content)
        pixels = digest_pixels(np.asarray(open_rgb(content)))
        samples.append({"name": name, "file": file, "format": form, "pixels": pixels})
    values = {
        "made_with": describe_pillow(),
        "samples": samples,
        "resizes": [digest_resize(*case) for case in RESIZES],
    }
    (folder / MANIFEST).write_text(json.dumps(values, indent=2) + "\n")


def _contents() -> list[tuple[str, str, str, bytes]]:
    """Name, file, format and bytes of each picture."""
    import simplejpeg

    pixels = draw_pattern(_WIDTH, _HEIGHT)
    picture = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[_ORIENTATION] = _TURNED
    alpha = np.dstack([pixels, pixels[:, :, 2]])
    ways: dict[str, tuple[str, Image.Image, dict[str, Any]]] = {
        "JPEG 4:2:0": ("420.jpg", picture, {"subsampling": 2}),
        "JPEG 4:2:2": ("422.jpg", picture, {"subsampling": 1}),
        "JPEG 4:4:4": ("444.jpg", picture, {"subsampling": 0}),
        "JPEG progressive": ("progressive.jpg", picture, {"progressive": True}),
        "JPEG grey": ("grey.jpg", picture.convert("L"), {}),
        "JPEG with an EXIF orientation": ("turned.jpg", picture, {"exif": exif}),
        "PNG": ("rgb.png", picture, {}),
        "PNG with transparency": ("alpha.png", Image.fromarray(alpha), {}),
        "WebP": ("lossy.webp", picture, {"quality": 80}),
    }
    found = [(name, file, *_saved(one, file, options)) for name, (file, one, options) in ways.items()]
    halved = simplejpeg.encode_jpeg(pixels, quality=75, colorsubsampling="440")
    return [*found, ("JPEG 4:4:0", "440.jpg", "JPEG", halved)]


def _saved(picture: Image.Image, file: str, options: dict[str, Any]) -> tuple[str, bytes]:
    form = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}[Path(file).suffix]
    stream = io.BytesIO()
    picture.save(stream, format=form, **options)
    return form, stream.getvalue()


if __name__ == "__main__":
    make_samples(Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES)
