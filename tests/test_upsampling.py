import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from lfm_deploy.network.residuals import neighbouring_pixel_relationships
from lfm_deploy.pictures.photographs import sample_tiles
from training.upsampling import UPSAMPLERS, halve


@pytest.fixture(scope="module")
def tile():
    return sample_tiles(64, 80, 3)[0]


def test_halving_is_the_mean_of_each_block(tile):
    pixels = torch.from_numpy(tile.transpose(2, 0, 1).copy()).float()
    expected = F.avg_pool2d(pixels[None], 2)[0].round().numpy().transpose(1, 2, 0)
    # Halves may round either way.
    assert np.abs(halve(tile) - expected).max() <= 1


@pytest.mark.parametrize("way", UPSAMPLERS)
def test_size_type_and_content_stay(tile, way):
    fake = UPSAMPLERS[way](tile, np.random.default_rng(0))
    assert (fake.shape, fake.dtype) == (tile.shape, np.uint8)
    assert not (fake == tile).all()
    # The picture is still the same one: shrunk again, most of it is where it was.
    assert np.corrcoef(halve(fake).ravel(), halve(tile).ravel())[0, 1] > 0.95


@pytest.mark.parametrize("way", UPSAMPLERS)
def test_the_same_seed_gives_the_same_pixels(tile, way):
    first, second = (UPSAMPLERS[way](tile, np.random.default_rng(7)) for _ in range(2))
    assert (first == second).all()


@pytest.mark.parametrize("way", ["transposed", "pixel_shuffle"])
def test_kernels_are_random(tile, way):
    first, second = (UPSAMPLERS[way](tile, np.random.default_rng(seed)) for seed in (1, 2))
    assert not (first == second).all()


def test_nearest_leaves_no_relation_between_neighbours(tile):
    fake = UPSAMPLERS["nearest"](tile, np.random.default_rng(0))
    pixels = torch.from_numpy(fake.transpose(2, 0, 1).copy()).float()[None]
    assert not neighbouring_pixel_relationships(pixels).any()


@pytest.mark.parametrize("way", ["bilinear", "bicubic"])
def test_filters_are_pillows(tile, way):
    resampling = Image.Resampling[way.upper()]
    expected = Image.fromarray(halve(tile)).resize((80, 64), resampling)
    assert (UPSAMPLERS[way](tile, np.random.default_rng(0)) == np.asarray(expected)).all()


@pytest.mark.parametrize("way", ["nearest", "bilinear", "bicubic", "pixel_shuffle"])
def test_flat_colours_stay_flat(way):
    flat = np.full((32, 32, 3), 128, np.uint8)
    # Kernels sum to 1; the last bit may round away.
    assert np.abs(UPSAMPLERS[way](flat, np.random.default_rng(3)).astype(int) - 128).max() <= 1


def test_transposed_convolution_makes_a_checkerboard_on_flat_colours():
    fake = UPSAMPLERS["transposed"](np.full((32, 32, 3), 128, np.uint8), np.random.default_rng(3)).astype(int)
    inner = fake[4:-4, 4:-4]
    assert (inner[::2, ::2] == inner[0, 0]).all()
    assert np.ptp(inner) > 1
