"""The self-test against pixels that differ, and its manifest against a fresh one."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import DecoderError, ImageError
from lfm_deploy.pictures import opening, resizing, self_test
from lfm_deploy.pictures.decoding import decode_picture
from lfm_deploy.pictures.make_samples import make_samples
from lfm_deploy.pictures.pipeline import read_groups
from lfm_deploy.pictures.pixel_limit import limit_pixels
from lfm_deploy.pictures.self_test import (
    SAMPLES,
    describe_differences,
    find_difference,
    find_differences,
    load_samples,
    resizes_otherwise,
)
from lfm_deploy.pictures.sources import file_source

CONFIG = ModelConfig()


@pytest.fixture
def afresh():
    """The self-test runs anew, and again after the test."""
    caches = (find_differences, resizes_otherwise, load_samples)
    for one in caches:
        one.cache_clear()
    yield
    for one in caches:
        one.cache_clear()


def encoded(form):
    stream = io.BytesIO()
    Image.fromarray(self_test.draw_pattern(64, 48)).save(stream, format=form)
    return stream.getvalue()


def test_pixels_here_are_the_contracts(afresh):
    assert find_differences() == {}
    assert not resizes_otherwise()
    assert describe_differences() == []


def test_a_limit_on_the_pictures_of_a_job_is_none_on_the_samples(afresh):
    with limit_pixels(100):
        assert find_differences() == {}


def test_samples_cover_what_the_contract_promises():
    assert {sample.name for sample in load_samples()} == {
        *("JPEG 4:2:0", "JPEG 4:2:2", "JPEG 4:4:0", "JPEG 4:4:4", "JPEG progressive", "JPEG grey"),
        *("JPEG with an EXIF orientation", "PNG", "PNG with transparency", "WebP"),
    }
    assert sum((SAMPLES / sample.file).stat().st_size for sample in load_samples()) < 32_000


def test_the_script_makes_samples_with_these_pixels(tmp_path):
    """Encoders of other versions may write other files of JPEG and WebP; PNG loses nothing."""
    make_samples(tmp_path)
    made = {one["file"]: one for one in json.loads((tmp_path / "samples.json").read_text())["samples"]}
    shipped = {sample.file: sample for sample in load_samples()}
    assert made.keys() == shipped.keys()
    for file in ("rgb.png", "alpha.png"):
        assert made[file]["pixels"] == shipped[file].pixels


@pytest.mark.parametrize(
    "decode",
    [
        lambda content: np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) ^ 1,
        lambda content: np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))[::-1],
        lambda content: None,
    ],
)
def test_every_difference_of_a_sample_is_found(decode):
    assert all(find_difference(sample, decode) for sample in load_samples())


def test_a_sample_that_cannot_be_read_says_why():
    def fail(content):
        raise ImageError("no WebP in this Pillow")

    assert find_difference(load_samples()[0], fail) == "no WebP in this Pillow"


def test_a_format_that_is_decoded_otherwise_is_refused_and_others_are_not(afresh, monkeypatch, tmp_path):
    """Pillow is bent to give JPEG a level too much, as another build of it might."""
    honest = opening._to_rgb
    monkeypatch.setattr(
        opening, "_to_rgb", lambda p: honest(p).point(lambda v: v + 1) if p.format == "JPEG" else honest(p)
    )
    (line,) = describe_differences()
    assert line.startswith("JPEG is decoded to other pixels here (JPEG 4:2:0, ")
    assert "libjpeg" in line
    decode_picture(encoded("PNG"), 64, CONFIG)
    with pytest.raises(DecoderError, match="JPEG is decoded to other pixels"):
        decode_picture(encoded("JPEG"), 64, CONFIG)
    for number, form in enumerate(("PNG", "JPEG", "PNG")):
        (tmp_path / f"{number}.jpg").write_bytes(encoded(form))  # content decides, not the name
    groups = read_groups(map(file_source, sorted(tmp_path.iterdir())), 64, batch=1)
    assert next(groups).reasons == {}
    with pytest.raises(DecoderError):
        next(groups)


def test_another_resize_is_refused_where_it_matters(afresh, monkeypatch):
    def height_first(picture, width, height, resample=Image.Resampling.BILINEAR):
        return picture.resize((picture.width, height), resample).resize((width, height), resample)

    monkeypatch.setattr(self_test, "resize_picture", height_first)
    assert resizing.resize_picture is not height_first
    (line,) = describe_differences()
    assert "resized to other pixels" in line
    decode_picture(encoded("PNG"), "native", CONFIG)
    with pytest.raises(DecoderError, match="resized"):
        decode_picture(encoded("PNG"), 64, CONFIG)


def test_help_does_not_wait_for_it():
    script = (
        "import sys; from lfm_deploy.cli import main\n"
        "try: main(['predict', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith(('lfm_deploy.pictures.', 'PIL', 'simplejpeg'))])"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    # The limit of pixels is an option's default, and imports nothing.
    assert finished.stdout.splitlines()[-1] == "['lfm_deploy.pictures.pixel_limit']"
