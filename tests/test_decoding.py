"""Pixels against Pillow called in the plain way: open, convert, resize."""

import io
import os
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL import __version__ as pillow_version
from PIL.PngImagePlugin import PngInfo

from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import ImageError
from lfm_deploy.pictures import opening
from lfm_deploy.pictures.decoding import decode_picture, read_rgb
from lfm_deploy.pictures.images import find_images
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.pictures.png_texts import drop_texts

CONFIG = ModelConfig()


def photograph(width, height):
    return Image.fromarray(sample_tiles(height, width, 1)[0])


def noisy_alpha(picture):
    alpha = np.random.default_rng(0).integers(0, 256, picture.size[::-1], dtype=np.uint8)
    return Image.fromarray(np.dstack([np.asarray(picture), alpha]))


def palette_with_transparency(picture):
    picture = picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=17)
    picture.info["transparency"] = bytes(range(17))
    return picture


# Format, how the picture is turned before it is saved, how it is saved.
KINDS = {
    "png 1": ("PNG", lambda p: p.convert("1"), {}),
    "png L": ("PNG", lambda p: p.convert("L"), {}),
    "png LA": ("PNG", lambda p: noisy_alpha(p).convert("LA"), {}),
    "png P": ("PNG", lambda p: p.convert("P"), {}),
    "png P, one transparent colour": ("PNG", lambda p: p.convert("P"), {"transparency": 3}),
    "png P, transparent palette": ("PNG", palette_with_transparency, {"transparency": bytes(range(17))}),
    "png RGB": ("PNG", lambda p: p, {}),
    "png RGB, transparent colour": ("PNG", lambda p: p, {"transparency": (1, 2, 3)}),
    "png RGBA": ("PNG", noisy_alpha, {}),
    "jpeg RGB": ("JPEG", lambda p: p, {}),
    "jpeg RGB, no subsampling": ("JPEG", lambda p: p, {"subsampling": 0, "quality": 97}),
    "jpeg progressive": ("JPEG", lambda p: p, {"progressive": True}),
    "jpeg L": ("JPEG", lambda p: p.convert("L"), {}),
    "jpeg CMYK": ("JPEG", lambda p: p.convert("CMYK"), {}),
    "webp": ("WEBP", lambda p: p, {}),
    "webp lossless RGBA": ("WEBP", noisy_alpha, {"lossless": True}),
    "bmp": ("BMP", lambda p: p, {}),
    "bmp L": ("BMP", lambda p: p.convert("L"), {}),
    "gif": ("GIF", lambda p: p.convert("P"), {}),
    "gif animation": ("GIF", lambda p: p.convert("P"), {"save_all": True, "append_images": [Image.new("P", (90, 90))]}),
    "tiff": ("TIFF", lambda p: p, {}),
    "tiff L": ("TIFF", lambda p: p.convert("L"), {}),
    "tiff CMYK": ("TIFF", lambda p: p.convert("CMYK"), {}),
    "tiff YCbCr": ("TIFF", lambda p: p.convert("YCbCr"), {"compression": "raw"}),
    "tiff LZW": ("TIFF", lambda p: p, {"compression": "tiff_lzw"}),
}


# 256x256 is what needs no resize; the others shrink, grow, and do both.
@pytest.mark.parametrize("size", [(256, 256), (640, 427), (90, 120), (500, 100)])
@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_pillows_from_files_and_bytes_and_into_a_slot(kind, size, tmp_path):
    form, turn, options = KINDS[kind]
    path = tmp_path / "picture"
    turn(photograph(*size)).save(path, format=form, **options)
    with Image.open(path) as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of transparent palettes, in this plain way
        try:
            rgb = opened.convert("RGB")
        except OSError as error:
            if kind != "tiff YCbCr":
                raise
            pytest.skip(f"Pillow {pillow_version} does not read what it writes: {error}")
        native = np.asarray(rgb)
        expected, small = (  # the width first, which is the contract, and of these sizes not Pillow 13's way
            np.asarray(
                rgb.resize((side, rgb.height), Image.Resampling.BILINEAR).resize(
                    (side, side), Image.Resampling.BILINEAR
                )
            )
            for side in (256, 64)
        )
    block = np.full((2, 256, 256, 3), 77, np.uint8)
    for content in (path, path.read_bytes()):
        found = decode_picture(content, 256, CONFIG)
        assert (found.shape, found.dtype) == ((256, 256, 3), np.uint8)
        assert (found == expected).all()
        assert (decode_picture(content, 64, CONFIG) == small).all()  # far smaller: where drafts would be made
        if size[0] % 2 == size[1] % 2 == 0:
            assert (decode_picture(content, "native", CONFIG) == native).all()
    decode_picture(path, 256, CONFIG, slot=block[1])
    assert (block[1] == expected).all()
    assert (block[0] == 77).all()


@pytest.mark.parametrize("suffix", [".avif", ".jfif", ".jpe", ".apng", ".mpo", ".heic", ".heif"])
def test_pictures_by_all_the_names_that_people_have_for_them_are_found(suffix, tmp_path):
    (tmp_path / f"X{suffix.upper()}").touch()
    assert [path.suffix.lower() for path in find_images(tmp_path)] == [suffix]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "AVIF", "MPO"])
def test_content_decides_over_the_name(form, tmp_path):
    options = {"save_all": True, "append_images": [photograph(64, 48)]} if form == "MPO" else {}
    photograph(64, 48).save(tmp_path / "x.bmp", format=form, **options)
    with Image.open(tmp_path / "x.bmp") as opened:
        assert np.array_equal(decode_picture(tmp_path / "x.bmp", "native", CONFIG), opened.convert("RGB"))


def heic(bits=8):
    heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    if bits == 8:
        heif.from_pillow(photograph(64, 48)).save(stream, quality=90)
    else:
        heif.from_bytes(mode="RGB;16", size=(64, 48), data=bytes(64 * 48 * 6)).save(stream, quality=90)
    return stream.getvalue()


def test_heic_is_read_where_its_library_is(tmp_path):
    content = heic()
    (tmp_path / "x.heic").write_bytes(content)
    expected = sys.modules["pillow_heif"].open_heif(io.BytesIO(content)).to_pillow()
    for picture in (content, tmp_path / "x.heic"):
        assert np.array_equal(decode_picture(picture, "native", CONFIG), expected)
    # What it loses to the coder, at this quality, is far less than a picture differs from another one.
    assert np.abs(np.asarray(expected).astype(int) - photograph(64, 48)).mean() < 10


def test_heic_of_more_than_8_bits_is_refused():
    with pytest.raises(ImageError, match="HEIC of 10 bits"):
        decode_picture(heic(10), 64, CONFIG)


def test_heic_without_its_library_names_it(monkeypatch, tmp_path):
    content = heic()
    (tmp_path / "x.jpg").write_bytes(content)
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    for picture in (content, tmp_path / "x.jpg"):
        with pytest.raises(ImageError, match=r"HEIC needs pillow-heif; run 'pip install lfm-deploy\[heic\]'"):
            decode_picture(picture, 64, CONFIG)


def test_damaged_heic_has_a_reason():
    content = heic()
    for cut in (content[:30], content[: len(content) // 2]):
        with pytest.raises(ImageError, match="cannot be read"):
            decode_picture(cut, 64, CONFIG)


def test_the_result_can_be_written_to():
    stream = io.BytesIO()
    photograph(64, 64).save(stream, format="PNG")
    for size in (64, "native"):
        decode_picture(stream.getvalue(), size, CONFIG)[0, 0, 0] = 1


def test_reasons_are_the_same_in_every_run():
    """Pillow names the address of the object that it cannot read."""
    reasons = set()
    for _ in range(3):
        with pytest.raises(ImageError, match="cannot be read") as caught:
            decode_picture(b"hello", 256, CONFIG)
        reasons.add(str(caught.value))
    assert reasons == {"cannot be read: not a picture of a known format"}


def test_nothing_that_blocks_for_ever_is_opened(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    caught = []

    def read():
        try:
            decode_picture(tmp_path / "x.png", 256, CONFIG)
        except ImageError as error:
            caught.append(str(error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(timeout=10)
    assert caught == ["cannot be read: not a regular file"]
    with pytest.raises(ImageError, match="a folder"):
        decode_picture(tmp_path, 256, CONFIG)


def test_a_picture_of_its_own_size_for_those_who_resize_otherwise(tmp_path):
    picture = photograph(71, 33)
    picture.convert("CMYK").save(tmp_path / "x.jpg")
    found = read_rgb(tmp_path / "x.jpg")
    with Image.open(tmp_path / "x.jpg") as opened:
        assert np.array_equal(found, opened.convert("RGB"))
    (tmp_path / "x.jpg").unlink()  # nothing is read any more
    assert found.resize((8, 8)).size == (8, 8)


def test_a_size_is_refused_before_anything_is_decoded():
    stream = io.BytesIO()
    photograph(64, 64).save(stream, "PNG")
    cut = stream.getvalue()[:200]

    def refuse(width, height):
        raise ImageError(f"not {width}x{height}")

    with pytest.raises(ImageError, match="not 64x64"):
        read_rgb(cut, refuse)
    with pytest.raises(ImageError, match="cannot be read"):
        read_rgb(cut)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_pictures_of_phones_with_a_hundred_megapixels_are_read():
    """Pillow warns above 89 million pixels and refuses above 179 million; cameras take 100 to 108."""
    stream = io.BytesIO()
    Image.new("L", (10_000, 9_000), 90).save(stream, format="PNG", compress_level=1)
    assert (decode_picture(stream.getvalue(), 64, CONFIG) == 90).all()


@pytest.mark.parametrize("text", [PngInfo.add_text, PngInfo.add_itxt])
@pytest.mark.parametrize("compressed", [False, True])
def test_pixels_do_not_depend_on_two_megabytes_of_text(text, compressed, tmp_path):
    """Generators write prompts and workflows; Pillow refuses more than one megabyte of it."""
    info = PngInfo()
    text(info, "workflow", "x" * (2 << 20), zip=compressed)
    photograph(64, 48).save(tmp_path / "x.png", pnginfo=info)
    for content in (tmp_path / "x.png", (tmp_path / "x.png").read_bytes()):
        assert np.array_equal(decode_picture(content, "native", CONFIG), np.asarray(photograph(64, 48)))


def test_dropped_texts_leave_the_rest_as_it_is():
    info = PngInfo()
    info.add_text("prompt", "a cat")
    with_text, without = io.BytesIO(), io.BytesIO()
    photograph(64, 48).save(with_text, format="PNG", pnginfo=info)
    photograph(64, 48).save(without, format="PNG")
    assert drop_texts(with_text.getvalue()) == without.getvalue()
    for cut in (9, 40, -5):
        assert drop_texts(without.getvalue()[:cut]) == without.getvalue()[:cut]
    assert drop_texts(b"no PNG") == b"no PNG"


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_names_that_no_file_can_have_are_a_reason(name):
    with pytest.raises(ImageError, match="cannot be read: "):
        decode_picture(Path(name), 256, CONFIG)


def test_the_reason_does_not_repeat_the_path(tmp_path):
    with pytest.raises(ImageError) as caught:
        decode_picture(tmp_path / ("x" * 300), 256, CONFIG)
    assert str(caught.value) == "cannot be read: File name too long"
