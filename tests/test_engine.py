import numpy as np
import pytest

from engines.engine import check_images, fill_batch, normalise_pixels, split_batch
from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import Contract
from lfm_deploy.errors import ShapeError


@pytest.mark.parametrize("smallest", [1, 2, 5])
@pytest.mark.parametrize("largest", [5, 8, 32])
@pytest.mark.parametrize("pictures", [1, 4, 5, 8, 9, 31, 33, 64, 1000])
def test_split_batch_covers_every_picture_once_within_the_range(pictures, smallest, largest):
    parts = split_batch(pictures, smallest, largest)
    covered = [index for part in parts for index in range(part.start, part.start + part.count)]
    assert covered == list(range(pictures))
    assert all(smallest <= part.run_as <= largest for part in parts)
    assert all(part.run_as == part.count for part in parts) or min(part.count for part in parts) < smallest


def test_split_batch_does_not_fill_where_equal_parts_avoid_it():
    # 33 = 32 + 1 would need filling at a smallest batch of 8; 16 + 17 does not.
    assert [part.count for part in split_batch(33, 8, 32)] == [16, 17]


def test_fill_batch_repeats_the_last_picture_only_behind_the_real_ones():
    images = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)
    (part,) = split_batch(3, 5, 8)
    assert fill_batch(images, part).ravel().tolist() == [0, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("shape", "dtype", "size"),
    [
        ((1, 256, 256, 3), "float32", 256),
        ((256, 256, 3), "uint8", 256),
        ((1, 3, 256, 256), "uint8", 256),
        ((1, 224, 224, 3), "uint8", 256),
        ((0, 256, 256, 3), "uint8", 256),
        ((1, 255, 256, 3), "uint8", "native"),
        ((1, 46, 46, 3), "uint8", "native"),
    ],
)
def test_check_images_refuses_what_the_contract_does_not_say(shape, dtype, size):
    with pytest.raises(ShapeError, match=r"lfm\.onnx"):
        check_images(shape, dtype, Contract(size=size), ModelConfig(), "lfm.onnx")


@pytest.mark.parametrize(("shape", "size"), [((7, 256, 256, 3), 256), ((1, 48, 48, 3), "native")])
def test_check_images_takes_what_the_contract_says(shape, size):
    check_images(shape, "uint8", Contract(size=size), ModelConfig(), "lfm.onnx")


def test_normalise_pixels_equals_the_published_preprocessing():
    torch = pytest.importorskip("torch")
    from lfm_deploy.network.model import normalise

    images = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)
    expected = normalise(torch.from_numpy(images)).numpy()
    # Both do the same three float32 operations; 1e-6 is a few roundings of values up to 2.6.
    np.testing.assert_allclose(normalise_pixels(images), expected, rtol=0, atol=1e-6)
