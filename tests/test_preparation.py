import numpy as np
import pytest
import torch
from PIL import Image

from lfm_deploy.detectors.detector_contract import InputContract
from lfm_deploy.detectors.preparation import prepare_picture, to_network_input
from lfm_deploy.errors import ImageError
from lfm_deploy.pictures.photographs import load_photographs, sample_tiles


def contract(**changes):
    values = {
        "name": None, "layout": "NCHW", "dtype": "float32", "colour": "RGB", "fit": "none", "resize": None,
        "filter": None, "crop": None, "too_small": None, "scale": 1 / 255, "mean": (0.0,) * 3, "std": (1.0,) * 3,
    }  # fmt: skip
    return InputContract(**values | changes)


@pytest.fixture
def saved(tmp_path):
    """Saves a photograph of the given size, and gives path and pixels."""

    def save(width, height):
        pixels = load_photographs()[0][:height, :width]
        assert pixels.shape == (height, width, 3)
        Image.fromarray(pixels).save(tmp_path / f"{width}x{height}.png")
        return tmp_path / f"{width}x{height}.png", pixels

    return save


def test_a_picture_as_it_is(saved):
    path, pixels = saved(37, 21)
    assert (prepare_picture(contract(), path) == pixels).all()
    assert (prepare_picture(contract(), path.read_bytes()) == pixels).all()


# Where the middle lies, worked out by hand; half a pixel goes to the even neighbour, as Python rounds.
@pytest.mark.parametrize(
    ("width", "height", "left", "top"), [(100, 80, 18, 8), (64, 64, 0, 0), (65, 67, 0, 2), (69, 71, 2, 4)]
)
def test_a_crop_takes_the_middle(saved, width, height, left, top):
    path, pixels = saved(width, height)
    found = prepare_picture(contract(crop=64, too_small="skip"), path)
    assert (found == pixels[top : top + 64, left : left + 64]).all()


def test_what_is_too_small_is_padded_with_black(saved):
    path, pixels = saved(41, 100)
    found = prepare_picture(contract(crop=64, too_small="pad"), path)
    expected = np.zeros((64, 64, 3), np.uint8)
    expected[:, 11:52] = pixels[18:82]  # 23 columns are missing: 11 on the left, 12 on the right
    assert (found == expected).all()


def test_what_is_too_small_is_skipped(saved):
    path, _ = saved(100, 63)
    with pytest.raises(ImageError, match="100x63 is smaller than the 64x64 that the detector judges"):
        prepare_picture(contract(crop=64, too_small="skip"), path)


def torch_resize(pixels, width, height, mode="bilinear"):
    """PyTorch's own antialiased resize, an implementation independent of Pillow's."""
    values = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].double()
    resized = torch.nn.functional.interpolate(values, (height, width), mode=mode, antialias=True, align_corners=False)
    return resized[0].permute(1, 2, 0).clamp(0, 255).numpy()


# Pillow rounds to whole grey levels after each of two passes, and its weights to 1/2^22.
LEVELS = 1.02


@pytest.mark.parametrize("filter_name", ["bilinear", "bicubic"])
def test_a_square_resize_ignores_the_shape_and_filters_like_pytorch(saved, filter_name):
    path, pixels = saved(300, 200)
    found = prepare_picture(contract(fit="square", resize=96, filter=filter_name), path)
    assert np.abs(found - torch_resize(pixels, 96, 96, filter_name)).max() < LEVELS


def test_filters_are_pillows(saved):
    path, _ = saved(300, 200)
    found = {
        name: prepare_picture(contract(fit="square", resize=64, filter=name), path).tobytes()
        for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
    }
    assert len(set(found.values())) == 6
    with Image.open(path) as picture:
        for name, pixels in found.items():
            assert pixels == picture.resize((64, 64), Image.Resampling[name.upper()]).tobytes()


@pytest.mark.parametrize(("size", "expected"), [((299, 200), (96, 143)), ((200, 299), (143, 96)), ((96, 96), (96, 96))])
def test_the_shorter_side_becomes_what_is_asked_for_and_the_longer_is_rounded_down(saved, size, expected):
    path, pixels = saved(*size)
    found = prepare_picture(contract(fit="shorter", resize=96, filter="bilinear"), path)
    assert found.shape == (*expected, 3)
    assert np.abs(found - torch_resize(pixels, expected[1], expected[0])).max() < LEVELS


def test_resizing_and_cropping(saved):
    path, pixels = saved(301, 200)
    found = prepare_picture(contract(fit="shorter", resize=96, filter="bilinear", crop=80), path)
    assert np.abs(found - torch_resize(pixels, 144, 96)[8:88, 32:112]).max() < LEVELS


@pytest.mark.parametrize(("size", "grown"), [((50, 40), (64, 80)), ((80, 100), None)])
def test_only_what_is_too_small_is_enlarged(saved, size, grown):
    path, pixels = saved(*size)
    found = prepare_picture(contract(crop=64, too_small="resize", filter="bilinear"), path)
    if grown is None:
        assert (found == pixels[18:82, 8:72]).all()
    else:
        assert np.abs(found - torch_resize(pixels, grown[1], grown[0])[:, 8:72]).max() < LEVELS


def test_a_thin_picture_is_not_blown_up_without_end(tmp_path):
    Image.new("RGB", (20_000, 1)).save(tmp_path / "thin.png")
    with pytest.raises(ImageError, match="20000x1 would become 5120000x256, more than"):
        prepare_picture(contract(fit="shorter", resize=256, filter="box"), tmp_path / "thin.png")


def test_pixels_are_written_where_asked(saved):
    path, pixels = saved(64, 64)
    block = np.zeros((2, 64, 64, 3), np.uint8)
    prepare_picture(contract(crop=64, too_small="skip"), path, block[1])
    assert (block[1] == pixels).all()
    assert not block[0].any()


@pytest.fixture(scope="module")
def tiles():
    return sample_tiles(20, 16, 3)


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_float_inputs_are_to_tensor_and_normalise(tiles, layout, colour):
    found = to_network_input(tiles, contract(layout=layout, colour=colour, mean=MEAN, std=STD))
    ordered = tiles if colour == "RGB" else tiles[..., ::-1].copy()
    expected = (torch.from_numpy(ordered).double() / 255 - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    expected = expected.permute(0, 3, 1, 2) if layout == "NCHW" else expected
    # Rounded to float32 once, at values of up to 2.7; torch.tensor rounds mean and std to float32 before.
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-6)


def test_a_scale_is_multiplied_before_the_mean_is_subtracted(tiles):
    found = to_network_input(tiles, contract(layout="NHWC", scale=2 / 255, mean=(1.0,) * 3))
    np.testing.assert_allclose(found, tiles / 127.5 - 1, rtol=0, atol=1e-7)  # float32 at up to 1
    raw = to_network_input(tiles, contract(layout="NHWC", scale=1.0, dtype="float16"))
    assert raw.dtype == np.float16
    assert (raw == tiles).all()


def test_uint8_inputs_get_pixels(tiles):
    assert (to_network_input(tiles, contract(dtype="uint8", layout="NHWC")) == tiles).all()
    swapped = to_network_input(tiles, contract(dtype="uint8", colour="BGR"))
    assert swapped.dtype == np.uint8
    assert swapped.flags.c_contiguous
    assert (swapped == np.stack([tiles[..., 2], tiles[..., 1], tiles[..., 0]], axis=1)).all()
