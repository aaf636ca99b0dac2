import numpy as np
import pytest
from PIL import Image

from lfm_deploy.errors import ImageError
from lfm_deploy.pictures.facts import read_facts
from lfm_deploy.pictures.fingerprints import fingerprint_files
from lfm_deploy.verification.alignment import Alignment, store_alike

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def save(path, mode="RGB", size=(64, 64), **options):
    Image.fromarray(PIXELS).resize(size).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"quality": 83, "subsampling": "4:2:0"}),
        ("b.jpg", {"quality": 97, "subsampling": "4:4:4", "size": (50, 70)}),
        ("c.jpg", {"quality": 90, "mode": "L"}),
        ("e.webp", {"quality": 80}),
    ],
)
def test_a_fake_is_stored_as_a_real_picture_is(tmp_path, name, options):
    model = save(tmp_path / name, **options)
    expected = read_facts(model)
    assert read_facts(store_alike(Image.fromarray(PIXELS), model, expected)) == expected


@pytest.mark.parametrize("options", [{"subsampling": "4:2:0"}, {"subsampling": "4:4:4"}, {"mode": "L"}])
def test_a_fake_is_stored_as_heic_where_a_real_picture_is(tmp_path, options):
    pytest.importorskip("pillow_heif").register_heif_opener(thumbnails=False)
    model = save(tmp_path / "a.heic", **options)
    expected = read_facts(model)
    assert expected.format == "heic"
    assert read_facts(store_alike(Image.fromarray(PIXELS), model, expected)) == expected


def test_tables_that_no_quality_has_are_taken_over(tmp_path):
    from PIL.JpegPresets import presets

    model = save(tmp_path / "a.jpg", qtables=presets["web_high"]["quantization"])
    content = store_alike(Image.fromarray(PIXELS), model, read_facts(model))
    (tmp_path / "b.jpg").write_bytes(content)
    with Image.open(model) as one, Image.open(tmp_path / "b.jpg") as two:
        assert one.quantization == two.quantization


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.gif"])
def test_what_keeps_pixels_keeps_them(tmp_path, name):
    model = save(tmp_path / name)
    content = store_alike(Image.fromarray(PIXELS), model, read_facts(model))
    (tmp_path / "x.ppm").write_bytes(content)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "x.ppm")), PIXELS)


@pytest.fixture
def alignment(tmp_path):
    """Four real pictures of four qualities, and twenty fakes."""
    real = [save(tmp_path / f"r{quality}.jpg", quality=quality) for quality in (60, 70, 80, 90)]
    fakes = []
    for index in range(20):
        PIXELS[0, 0, 0] = index
        fakes.append(save(tmp_path / f"f{index}.png"))

    def make(real=real, fakes=fakes):
        prints = [dict(zip(paths, fingerprint_files(paths), strict=True)) for paths in (real, fakes)]
        return Alignment(list(prints[0].items()), prints[1])

    return make, real, fakes


def test_all_real_pictures_are_drawn_and_the_draw_is_by_content(alignment, tmp_path):
    make, real, fakes = alignment
    drawn = [read_facts(make().load(path)).quality for path in fakes]
    assert set(drawn) == {60, 70, 80, 90}
    other = tmp_path / "renamed.png"
    other.write_bytes(fakes[3].read_bytes())
    again = make(real[::-1], [other, *fakes])
    assert [read_facts(again.load(path)).quality for path in fakes] == drawn
    assert read_facts(again.load(other)).quality == drawn[3]
    assert again.sha256 == make().sha256 != make(real[1:]).sha256


def test_real_pictures_stay_as_they_are(alignment):
    make, real, _ = alignment
    assert make().load(real[0]) == real[0]


def test_without_a_real_picture_that_can_be_opened_there_is_a_reason(alignment):
    make, real, fakes = alignment
    for path in real:
        path.write_bytes(b"broken")
    with pytest.raises(ImageError, match="no real picture of its set can be opened"):
        make().load(fakes[0])
