"""Whole numbers against Pillow, the width first, on random sizes from 1 to 4,000 pixels."""

import os

import numpy as np
import pytest
from PIL import Image

from lfm_deploy.pictures.exact_resize import BITS, make_weights, resize_exactly
from lfm_deploy.pictures.resizing import resize_picture

# Sizes tried along each axis; LFM_SIZES=4000 in the environment tries more.
SIZES = int(os.environ.get("LFM_SIZES", "600"))


def noise(rng, height, width):
    """Extreme values, so that every rounding shows."""
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels[rng.random((height, width)) < 0.3] = 255
    return pixels


def some_size(rng):
    """Small sizes as often as large ones."""
    return int(min(4000, np.exp(rng.uniform(0, np.log(4001)))))


def assert_equal(pixels, width, height):
    expected = np.asarray(resize_picture(Image.fromarray(pixels), width, height))
    found = resize_exactly(pixels, width, height)
    assert np.array_equal(found, expected), (pixels.shape, width, height, np.argwhere(found != expected)[:3])


@pytest.mark.parametrize("axis", [0, 1])
def test_one_axis_of_any_size_is_pillows(axis):
    """The other axis is thin, so that there is time for many sizes."""
    rng = np.random.default_rng(axis)
    for _ in range(SIZES):
        before, after, thin = some_size(rng), some_size(rng), int(rng.integers(1, 4))
        shape, to = ((before, thin), (thin, after)) if axis == 0 else ((thin, before), (after, thin))
        assert_equal(noise(rng, *shape), *to)


def test_both_axes_are_pillows():
    rng = np.random.default_rng(2)
    for _ in range(SIZES // 10):
        height, width = (int(side) for side in rng.integers(1, 700, 2))
        assert_equal(noise(rng, height, width), *(int(side) for side in rng.integers(1, 300, 2)))


@pytest.mark.parametrize("shape", [(256, 256), (256, 700), (700, 256), (1, 1), (1, 4000), (4000, 1), (4000, 3000)])
def test_the_contracts_size_from_unchanged_and_extreme_ones(shape):
    assert_equal(noise(np.random.default_rng(3), *shape), 256, 256)


def test_weights_are_whole_and_sum_to_one():
    for before, after in ((4000, 256), (100, 256), (257, 256), (3, 4000), (5, 5)):
        weights = make_weights(before, after)
        assert weights.values.dtype == weights.first.dtype == np.int32
        # Each of the taps is rounded by at most a half.
        assert (np.abs(weights.values.sum(1, dtype=np.int64) - (1 << BITS)) <= weights.taps / 2).all()
        assert 255 * int(weights.values.sum(1, dtype=np.int64).max()) + (1 << (BITS - 1)) < 1 << 31


def test_the_height_first_would_be_noticed():
    pixels = noise(np.random.default_rng(4), 900, 301)
    other = resize_exactly(resize_exactly(pixels, 301, 64), 64, 64)
    assert (other != np.asarray(resize_picture(Image.fromarray(pixels), 64, 64))).any()
