"""Every decoder against Pillow, bit for bit, and its refusals against Pillow's reasons."""

import functools
import io
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from lying_decoder import lying_decoder
from PIL import Image

from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import ConfigError, DecoderError, ImageError, UnavailableError
from lfm_deploy.pictures import decoders, nvimagecodec_decoder
from lfm_deploy.pictures.decoders import (
    DECODERS,
    PILLOW,
    check_proved,
    choose_decoder,
    find_jpeg_differences,
    open_decoder,
)
from lfm_deploy.pictures.decoding import decode_picture
from lfm_deploy.pictures.jpegs import load_jpeg
from lfm_deploy.pictures.photographs import sample_tiles

CONFIG = ModelConfig()
OTHERS = DECODERS[1:]


@functools.cache
def opened(name):
    try:
        return open_decoder(name).jpeg
    except UnavailableError as error:
        pytest.skip(str(error))


@functools.cache
def photograph(width, height):
    return Image.fromarray(sample_tiles(height, width, 1)[0])


def saved(picture, form="JPEG", **options):
    stream = io.BytesIO()
    picture.save(stream, format=form, **options)
    return stream.getvalue()


def sampled(width, height, subsampling):
    simplejpeg = pytest.importorskip("simplejpeg")
    return simplejpeg.encode_jpeg(np.asarray(photograph(width, height)), quality=80, colorsubsampling=subsampling)


def answer(content, size, jpeg=None, slot=None):
    """Pixels, or the reason."""
    try:
        return decode_picture(content, size, CONFIG, slot, jpeg)
    except ImageError as error:
        return str(error)


def assert_same(content, size, jpeg):
    expected, found = answer(content, size), answer(content, size, jpeg)
    assert isinstance(found, str) == isinstance(expected, str), (found, expected)
    if isinstance(expected, str):
        assert found == expected
    else:
        assert (found.shape, found.dtype) == (expected.shape, np.uint8)
        assert np.array_equal(found, expected)
        found[0, 0, 0] = 1  # a caller's own


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 16), (97, 63), (256, 256), (320, 241)])
@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411", "Gray"])
@pytest.mark.parametrize("name", OTHERS)
def test_pixels_of_every_subsampling_are_pillows(name, subsampling, size):
    grey = subsampling == "Gray"
    content = saved(photograph(*size).convert("L")) if grey else sampled(*size, subsampling)
    for side in (256, 32, "native"):
        assert_same(content, side, opened(name))


@pytest.mark.parametrize(
    "options",
    [
        {"progressive": True},
        {"progressive": True, "subsampling": 0},
        {"restart_marker_rows": 1},
        {"restart_marker_blocks": 3, "subsampling": 1},
        {"optimize": True, "quality": 12},
        {"quality": 100, "subsampling": 0},
        {"keep_rgb": True},
        {"comment": b"x" * 4000},
        {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"},
    ],
    ids=lambda options: ", ".join(options),
)
@pytest.mark.parametrize("name", OTHERS)
def test_pixels_of_every_coding_are_pillows(name, options):
    for side in (256, "native"):
        assert_same(saved(photograph(322, 210), **options), side, opened(name))


def twelve_bit():
    content = bytearray(saved(photograph(64, 64)))
    content[content.index(b"\xff\xc0") + 4] = 12
    return bytes(content)


ODD = {
    "zero bytes": lambda: b"",
    "cut in half": lambda: saved(photograph(200, 200))[:4000],
    "cut in the header": lambda: saved(photograph(200, 200))[:200],
    "without its end": lambda: saved(photograph(200, 200))[:-2],
    "bytes behind its end": lambda: saved(photograph(200, 200)) + b"more",
    "CMYK": lambda: saved(photograph(64, 64).convert("CMYK")),
    "YCCK": lambda: saved(photograph(64, 64).convert("CMYK")).replace(
        b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0\2"
    ),
    "12 bits": twelve_bit,
    "16-bit PNG": lambda: saved(Image.fromarray(np.full((64, 64), 40_000, np.uint16)), "PNG"),
    "not a picture": lambda: b"\xff\xd8\xff" + b"hello" * 50,
    "a bomb": lambda: saved(Image.new("L", (16, 16))).replace(b"\0\x10\0\x10", b"\xfd\xe8\xfd\xe8"),
    "PNG": lambda: saved(photograph(70, 50), "PNG"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_left_to_pillow_has_pillows_pixels_and_reasons(name, kind, tmp_path):
    content = ODD[kind]()
    (tmp_path / "x.jpg").write_bytes(content)
    for side in (64, "native"):
        assert_same(content, side, opened(name))
        assert_same(tmp_path / "x.jpg", side, opened(name))


@pytest.mark.parametrize("name", OTHERS)
def test_a_hundred_megapixels_are_judged_like_any_other(name):
    content = saved(Image.new("L", (10_000, 10_000), 90), quality=30)
    with pytest.warns(Image.DecompressionBombWarning):
        assert_same(content, 64, opened(name))


@pytest.mark.parametrize("name", OTHERS)
def test_damage_anywhere_changes_nothing_between_decoders(name):
    """300 files with three bytes changed: equal pixels, or the same reason."""
    rng = np.random.default_rng(0)
    whole = saved(photograph(96, 80), quality=85)
    for trial in range(300):
        content = bytearray(whole)
        for place in rng.integers(2 if trial % 2 else 600, len(content), 3):
            content[place] = rng.integers(256)
        assert_same(bytes(content), "native", opened(name))


@pytest.mark.parametrize("name", OTHERS)
def test_a_picture_of_the_right_size_is_decoded_into_its_place(name):
    block = np.full((3, 256, 256, 3), 77, np.uint8)
    content = saved(photograph(256, 256))
    found = decode_picture(content, 256, CONFIG, block[1], opened(name))
    assert found.base is block or found is block[1] or np.shares_memory(found, block)
    assert np.array_equal(block[1], decode_picture(content, 256, CONFIG))
    assert (block[[0, 2]] == 77).all()


def test_the_default_leaves_what_is_resized_to_pillow():
    """Where that takes as long, and one decoder less can differ."""
    opened("simplejpeg")
    jpeg = choose_decoder().jpeg
    seen = []
    spy = SimpleNamespace(
        name=jpeg.name,
        versions=jpeg.versions,
        before_resize=jpeg.before_resize,
        decode=lambda content, slot: seen.append(1) or jpeg.decode(content, slot),
    )
    for side, calls in ((256, 0), (64, 1), ("native", 2)):
        assert_same(saved(photograph(64, 64)), side, spy)
        assert len(seen) == calls


@pytest.mark.parametrize("name", OTHERS)
def test_nothing_that_blocks_for_ever_is_opened(name, tmp_path):
    os.mkfifo(tmp_path / "x.jpg")
    assert answer(tmp_path / "x.jpg", 64, opened(name)) == "cannot be read: not a regular file"
    assert answer(tmp_path / "none.jpg", 64, opened(name)) == "no such file"
    assert load_jpeg(tmp_path / ("x" * 5000)) is None


@pytest.mark.parametrize("name", OTHERS)
def test_pixels_of_real_files_are_pillows(name, shared):
    paths = sorted(path for path in (shared / "wild").rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    assert len(paths) > 200
    for path in paths[:: 1 if os.environ.get("LFM_ALL_FILES") else 8]:
        assert_same(path, 256, opened(name))
        assert_same(path, "native", opened(name))


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_is_proved_here_and_says_what_it_is(name):
    decoder = PILLOW if name == "pillow" else open_decoder(name)
    if name != "pillow":
        opened(name)
    assert find_jpeg_differences(decoder) == {}
    assert choose_decoder(name).name == name
    about = decoder.describe()
    assert about["name"] == name
    assert {"pillow", "libjpeg-turbo"} <= about["versions"].keys()


def test_the_fastest_is_taken_where_it_is_installed_and_equal(monkeypatch):
    opened("simplejpeg")
    assert choose_decoder().name == "simplejpeg"
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    assert choose_decoder() is PILLOW
    with pytest.raises(UnavailableError, match=r"pip install lfm-deploy\[fast-jpeg\]"):
        choose_decoder("simplejpeg")


def test_nvimagecodec_that_is_not_installed_is_named(monkeypatch):
    nvimagecodec_decoder._load_library.cache_clear()
    monkeypatch.setitem(sys.modules, "nvidia", None)
    with pytest.raises(UnavailableError, match=r"pip install lfm-deploy\[gpu-decode\]"):
        choose_decoder("nvimagecodec")
    nvimagecodec_decoder._load_library.cache_clear()


def test_a_decoder_that_lies_is_never_taken(monkeypatch):
    opened("simplejpeg")
    assert len(find_jpeg_differences(lying_decoder())) == 7
    with pytest.raises(DecoderError, match="other pixels than the contract's of JPEG 4:2:0"):
        check_proved(lying_decoder())
    lying = lying_decoder()
    monkeypatch.setattr(decoders, "open_decoder", lambda name: lying)
    monkeypatch.setattr(decoders, "SimpleJpegDecoder", lambda before_resize: lying.jpeg)
    said = []
    assert choose_decoder(on_message=said.append) is PILLOW
    assert said[0].startswith("not taking simplejpeg: decoder simplejpeg: gives other pixels")
    with pytest.raises(DecoderError):
        choose_decoder("simplejpeg")


def test_a_decoder_that_decodes_nothing_is_no_decoder():
    class Idle:
        name, versions, before_resize = "simplejpeg", {}, True  # read alone

        def decode(self, content, slot):
            return None

    with pytest.raises(DecoderError, match="gives other pixels than the contract's of"):
        check_proved(decoders.PictureDecoder(name="simplejpeg", jpeg=Idle()))


def test_unknown_decoders_are_refused():
    with pytest.raises(ConfigError, match="expected pillow, simplejpeg, nvimagecodec"):
        open_decoder("libjpeg")


def test_nvimagecodec_keeps_its_messages_to_itself():
    opened("nvimagecodec")
    script = (
        "from lfm_deploy.pictures.decoders import *\n"
        "d = open_decoder('nvimagecodec'); check_proved(d)\n"
        "assert d.jpeg.decode(b'\\xff\\xd8\\xff\\xe0 damaged \\xff\\xd9', None) is None\n"
        "import os; os.write(2, b'own')"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (finished.stdout, finished.stderr) == ("", "own")


def test_nvimagecodec_on_a_card_that_is_not_there(no_gpu):
    opened("nvimagecodec")
    with pytest.raises(UnavailableError, match="nvimagecodec on cuda:0: not run"):
        open_decoder("nvimagecodec", device=0)
