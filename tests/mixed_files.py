"""Picture files of all formats and many modes, and files that are none or damaged: what a service meets in a day."""

import io
import itertools
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, features

from lfm_deploy.pictures.photographs import sample_tiles

FORMATS = {
    "png": ("PNG", {}),
    "jpg": ("JPEG", {"quality": 92}),
    "webp": ("WEBP", {"quality": 90}),
    "bmp": ("BMP", {}),
    "tif": ("TIFF", {}),
    "gif": ("GIF", {}),
    "ppm": ("PPM", {}),
    "jp2": ("JPEG2000", {}),
    "avif": ("AVIF", {"quality": 90, "speed": 10}),
}
_FEATURES = {"webp": "webp", "jp2": "jpg_2000", "avif": "avif"}  # what Pillow may have been built without
SIDES = [(256, 256), (320, 200), (64, 48), (101, 303), (2, 2), (256, 512)]


def encode(picture: Image.Image, suffix: str) -> bytes:
    form, options = FORMATS[suffix]
    if suffix == "gif" and picture.mode == "RGB":
        picture = picture.quantize(method=Image.Quantize.FASTOCTREE)  # what Pillow takes itself is ten times as slow
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def list_bad() -> dict[str, bytes]:
    """Files that cannot be judged, each for another reason."""
    tile = Image.fromarray(sample_tiles(128, 128, 1)[0])
    png, jpeg = encode(tile, "png"), encode(tile, "jpg")
    deep = io.BytesIO()
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16).save(deep, "PNG")
    floats = io.BytesIO()
    Image.fromarray(np.zeros((64, 64), np.float32)).save(floats, "TIFF")
    return {
        "empty.png": b"",
        "text.jpg": b"this is no picture\n",
        "half.png": png[: len(png) // 2],
        "half.jpg": jpeg[: len(jpeg) // 2],
        "head.png": png[:20],
        "deep.png": deep.getvalue(),
        "floats.tif": floats.getvalue(),
        "flipped.png": png[:60] + bytes([png[60] ^ 255]) + png[61:],
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    }


def write_mixed(folder: Path, count: int) -> list[Path]:
    """As many files as are asked for, good and bad in turns, named in their order."""
    assert not ImageFile.LOAD_TRUNCATED_IMAGES  # or half a file would be a picture
    tiles = itertools.cycle(sample_tiles(400, 600, 8))
    modes = itertools.cycle(["RGB", "L", "RGB", "P", "RGBA", "RGB", "1", "CMYK", "LA"])
    sides = itertools.cycle(SIDES)
    suffixes = itertools.cycle(FORMATS)
    bad = itertools.cycle(list_bad().items())
    paths = []
    for index in range(count):
        if index % 6 == 5:
            name, content = next(bad)
            path = folder / f"{index:03}-{name}"
        else:
            suffix, mode, size = next(suffixes), next(modes), next(sides)
            if not features.check(_FEATURES.get(suffix, "zlib")):
                suffix = "png"
            picture = Image.fromarray(next(tiles)).resize(size)
            content = encode(picture.convert(_storable(mode, suffix)), suffix)
            path = folder / f"{index:03}-{mode}.{suffix}"
        path.write_bytes(content)
        paths.append(path)
    return paths


def _storable(mode: str, suffix: str) -> str:
    """The mode, or RGB where a format does not know it."""
    known = {
        "png": {"RGB", "L", "P", "RGBA", "1", "LA"},
        "jpg": {"RGB", "L", "CMYK"},
        "webp": {"RGB", "RGBA"},
        "bmp": {"RGB", "L", "P", "1"},
        "tif": {"RGB", "L", "P", "RGBA", "1", "CMYK", "LA"},
        "gif": {"RGB", "L", "P", "1"},
        "ppm": {"RGB", "L", "1"},
        "jp2": {"RGB", "L", "RGBA"},
        "avif": {"RGB", "RGBA"},
    }
    return mode if mode in known[suffix] else "RGB"
