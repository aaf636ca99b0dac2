import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lfm_deploy.errors import ImageError
from lfm_deploy.pictures.images import find_images, read_batches, read_image
from lfm_deploy.pictures.photographs import sample_tiles


@pytest.fixture(scope="module")
def tile():
    return Image.fromarray(sample_tiles(120, 90, 1)[0])


def test_pixels_are_pillows(tile, tmp_path):
    tile.convert("CMYK").save(tmp_path / "x.jpg")
    with Image.open(tmp_path / "x.jpg") as opened:
        expected = np.asarray(opened.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR))
    found = read_image(tmp_path / "x.jpg")
    assert (found.shape, found.dtype) == ((256, 256, 3), np.uint8)
    assert (found == expected).all()


def test_a_transparent_palette_does_not_warn(tile, tmp_path):
    tile.convert("P", colors=17).save(tmp_path / "x.png", transparency=bytes(range(17)))
    read_image(tmp_path / "x.png")  # a warning would be an error here


def test_native_pictures_are_left_as_they_are(tile, tmp_path):
    tile.save(tmp_path / "x.png")
    assert (read_image(tmp_path / "x.png", "native") == np.asarray(tile)).all()


def bomb(path):
    """A PNG that says it has 60000 x 60000 pixels; its data would take 10 GB to decode."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    content = zlib.compress(b"\0" * 1000)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b""))


def large(path):
    """A little more pixels than Pillow refuses; as small a file as there can be."""
    Image.new("1", (18_000, 10_000)).save(path)


def postscript(path):
    """Pillow by itself starts Ghostscript on it, whatever it is called."""
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n")


def cut(path):
    Image.fromarray(sample_tiles(64, 64, 1)[0]).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BROKEN = {
    "missing": (lambda path: None, "no such file"),
    "empty": (lambda path: path.touch(), "the file is empty"),
    "text": (lambda path: path.write_text("hello"), "cannot be read"),
    "truncated": (cut, "cannot be read"),
    "16-bit": (lambda path: Image.fromarray(np.zeros((64, 64), np.uint16)).save(path), "more than 8 bits"),
    "bomb": (bomb, "more than 178956970 pixels; --max-pixels raises the limit"),
    "large": (large, "more than 178956970 pixels; --max-pixels raises the limit"),
    "PostScript": (postscript, "not a picture of a known format"),
    "folder": (lambda path: path.mkdir(), "cannot be read"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_read_says_why_on_one_line(tmp_path, kind):
    make, reason = BROKEN[kind]
    make(tmp_path / "x.png")
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(tmp_path / "x.png")
    assert str(tmp_path / "x.png") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("size", "reason"), [((63, 64), "odd side"), ((46, 46), "too small"), ((1, 1), "odd side")])
def test_native_sizes_that_the_network_is_not_defined_for(tmp_path, size, reason):
    Image.new("RGB", size).save(tmp_path / "x.png")
    with pytest.raises(ImageError, match=reason):
        read_image(tmp_path / "x.png", "native")
    read_image(tmp_path / "x.png", 256)


@pytest.fixture
def folder(tmp_path):
    """Pictures whose top-left pixel is their number, with broken ones at 3, 4 and 9."""
    for index in range(20):
        path = tmp_path / f"{index:02}.png"
        if index in (3, 4, 9):
            path.write_bytes(b"broken")
        else:
            Image.new("RGB", (64 if index < 12 else 48, 64), (index, 0, 0)).save(path)
    return tmp_path


@pytest.mark.parametrize("batch", [1, 2, 5, 32])
def test_batches_keep_the_order_and_lose_nothing(folder, batch):
    paths = find_images(folder)
    batches = list(read_batches(paths, 256, batch=batch, workers=3))
    kept = [index for part in batches for index in part.indices]
    assert kept == [index for index in range(20) if index not in (3, 4, 9)]
    assert [part.images[row, 0, 0, 0] for part in batches for row in range(len(part.indices))] == kept
    assert [skipped.path for part in batches for skipped in part.skipped] == [paths[3], paths[4], paths[9]]
    assert all(len(part.indices) == len(part.images) <= batch for part in batches)


def test_at_native_size_a_batch_has_one_size(folder):
    batches = list(read_batches(find_images(folder), "native", batch=32))
    assert [part.images.shape[1:3] for part in batches] == [(64, 64), (64, 48)]


def test_only_broken_pictures_still_come_out(folder):
    (part,) = read_batches([folder / "03.png", folder / "04.png"], 256, batch=8)
    assert (part.indices, len(part.skipped)) == ([], 2)


def test_find_images_takes_pictures_alone(tmp_path):
    for name in ("b.PNG", "a.jpeg", "notes.txt", ".hidden.png", "deep/c.webp", ".cache/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)] == [
        "a.jpeg",
        "b.PNG",
        "deep/c.webp",
    ]
