"""What conditions do to pictures, against Pillow called in the plain way."""

import io

import numpy as np
import pytest
from PIL import Image

from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import ImageError
from lfm_deploy.pictures.decoding import decode_picture
from lfm_deploy.pictures.pixel_limit import limit_pixels
from lfm_deploy.verification.conditions import AS_IS, describe_encoders, encode_jpeg, scale_by, standard_conditions

NAMES = [
    "as is",
    *("jpeg 98", "jpeg 95", "jpeg 90", "jpeg 75"),
    *("webp 90", "webp 75"),
    *("resize 0.5", "resize 0.75", "resize 1.5"),
    "crop 256",
    "blur 1",
    "screenshot",
]
CHANGES = [condition for condition in standard_conditions() if condition is not AS_IS]


def pixels_of(width, height):
    """Slopes, edges and noise, which every encoder and filter changes."""
    rows, columns = np.mgrid[:height, :width]
    slopes = np.stack([rows, columns, rows + columns], axis=2) % 180
    noise = np.random.default_rng(0).integers(0, 60, (height, width, 3))
    return (slopes + noise).astype(np.uint8)


def painted(width, height):
    return Image.fromarray(pixels_of(width, height))


def named(name):
    return next(condition for condition in standard_conditions() if condition.name == name)


def read(content):
    """As the pipeline reads what a condition gives."""
    return decode_picture(content, 256, ModelConfig())


def saved(picture, path, **options):
    picture.save(path, **options)
    return path


@pytest.fixture(params=CHANGES, ids=lambda condition: condition.name)
def condition(request):
    return request.param


def test_the_standard_conditions_are_named_and_described():
    conditions = standard_conditions()
    assert [condition.name for condition in conditions] == NAMES
    assert len({condition.what for condition in conditions}) == len(conditions)
    for condition in conditions:
        for number in (part for part in condition.name.split() if part[0].isdigit()):
            assert number in condition.what
    assert "crop 64" in [condition.name for condition in standard_conditions(64)]


def test_each_changes_pixels_the_same_way_every_time_and_leaves_the_original(condition):
    picture = painted(260, 256)
    before = np.array(picture)
    first, second = (np.asarray(condition.apply(picture)) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(np.asarray(picture), before)
    assert first.shape != before.shape or not np.array_equal(first, before)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("jpeg 98", (301, 277)),
        ("webp 75", (301, 277)),
        ("blur 1", (301, 277)),
        ("crop 256", (256, 256)),
        # The nearest even numbers to half of it, three quarters, and so on.
        ("resize 0.5", (150, 138)),
        ("resize 0.75", (226, 208)),
        ("resize 1.5", (452, 416)),
        ("screenshot", (240, 222)),
    ],
)
def test_sizes_of_what_comes_out(name, size):
    changed = named(name).apply(painted(301, 277))
    assert (changed.size, changed.mode) == (size, "RGB")


@pytest.mark.parametrize("quality", [98, 75])
def test_jpeg_is_what_pillow_writes_at_that_quality(quality):
    picture, content = painted(121, 90), io.BytesIO()
    picture.save(content, "JPEG", quality=quality)  # 4:2:0 is the encoder's default
    with Image.open(content) as opened:
        expected = np.asarray(opened)
    assert np.array_equal(np.asarray(encode_jpeg(quality).apply(picture)), expected)


def test_a_worse_encoder_is_further_from_the_picture():
    picture = painted(256, 256)
    pixels = np.asarray(picture).astype(int)
    errors = [
        np.abs(np.asarray(condition.apply(picture)).astype(int) - pixels).mean()
        for condition in CHANGES
        if condition.name.startswith("jpeg")
    ]
    assert errors == sorted(errors)
    assert errors[0] > 0


def test_the_crop_keeps_pixels_of_the_middle():
    pixels = pixels_of(259, 300)
    cropped = named("crop 256").apply(Image.fromarray(pixels))
    assert np.array_equal(np.asarray(cropped), pixels[22:278, 1:257])


def test_the_blur_has_a_standard_deviation_of_a_pixel():
    pixels = np.zeros((41, 41, 3), np.uint8)
    pixels[:, 20] = 255  # a line: one bright pixel alone would round to nothing a few pixels away
    line = np.asarray(named("blur 1").apply(Image.fromarray(pixels)))[20, :, 0].astype(float)
    offsets = np.arange(41) - 20
    # Rounding each of some seven values to a grey level moves this by up to 0.03.
    assert np.sqrt((line * offsets**2).sum() / line.sum()) == pytest.approx(1, abs=0.05)


def test_a_screenshot_is_scaled_and_then_a_jpeg():
    picture = painted(200, 100)
    shown = picture.resize((160, 80), Image.Resampling.BILINEAR)
    assert np.array_equal(np.asarray(named("screenshot").apply(picture)), np.asarray(encode_jpeg(90).apply(shown)))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_files_of_other_modes_become_what_the_protocol_makes_of_them(condition, mode, tmp_path):
    picture = painted(261, 257).convert(mode)
    plain = condition.apply(picture.convert("RGB"))
    path = saved(picture, tmp_path / "picture.png")
    content = condition.load(path)
    expected = np.asarray(plain.resize((256, 256), Image.Resampling.BILINEAR))
    assert np.array_equal(read(content), expected)


def test_as_is_is_the_file_itself(tmp_path):
    path = saved(painted(301, 277), tmp_path / "picture.jpg")
    assert AS_IS.load(path) == path
    with Image.open(path) as picture:
        assert AS_IS.apply(picture) is picture


@pytest.mark.parametrize("size", [(257, 1), (1, 1), (1, 300)])
def test_thin_pictures_give_pixels_or_a_reason(condition, size, tmp_path):
    path = saved(Image.new("RGB", size, (200, 10, 30)), tmp_path / "thin.png")
    if condition.name.startswith(("resize", "screenshot")):
        with pytest.raises(ImageError, match=f"^{size[0]}x{size[1]} is too thin"):
            condition.load(path)
    elif condition.name.startswith("crop"):
        with pytest.raises(ImageError, match="smaller than 256x256"):
            condition.load(path)
    else:
        assert read(condition.load(path)).shape == (256, 256, 3)


def test_two_pixels_stay_two():
    assert scale_by(0.5).apply(painted(2, 3)).size == (2, 2)


def test_a_side_beyond_the_format_is_a_reason():
    with pytest.raises(ImageError, match="17000x2 cannot be saved as WEBP"):
        named("webp 90").apply(Image.new("RGB", (17000, 2)))


def test_a_picture_that_would_become_a_bomb_is_a_reason():
    with limit_pixels(10_000), pytest.raises(ImageError, match=r"90x90 times 1\.5 is more than 10000 pixels"):
        scale_by(1.5).apply(painted(90, 90))


def test_a_file_that_cannot_be_read_gives_the_reason_of_every_other_reader(condition, tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(ImageError, match=r"^cannot be read: not a picture of a known format$"):
        condition.load(tmp_path / "text.png")


def test_encoders_have_versions():
    found = describe_encoders()
    assert found["pillow"] == Image.__version__
    assert found["libwebp"]
    assert found["libjpeg"]
