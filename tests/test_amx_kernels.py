import numpy as np
import pytest

pytest.importorskip("numba", reason="the extra 'amx' is not installed")

from tile_reference import judge, make_layers

from engines.amx.engine import make_runner
from engines.amx.network import make_network, make_workspace
from engines.amx.shapes import ROW_BYTES, ROWS
from engines.amx.tiles import EMULATED
from lfm_deploy.config import ModelConfig
from lfm_deploy.pictures.photographs import sample_tiles

# Each with the size of pictures; loops stand in for the units where there are none, so these are small.
CONFIGS = {
    "as published, narrower": (ModelConfig(widths=(16, 32, 64, 96), projection=32, k=4), (64, 72)),
    "widths of no whole tile": (ModelConfig(widths=(8, 24, 40), projection=12, k=3), (46, 38)),
    "one pooling, odd rows": (ModelConfig(widths=(16, 16, 32), projection=32, k=16, pools=1), (40, 34)),
    "two convolutions, k of 64": (ModelConfig(widths=(80, 16), projection=16, k=64), (24, 26)),
    "k of 1, narrower than a tile": (ModelConfig(widths=(16, 16), projection=16, k=1), (12, 10)),
    "wider than long": (ModelConfig(widths=(16, 32, 32), projection=32, k=2, pools=2), (16, 150)),
}


def request_units():
    if not EMULATED:
        from engines.amx.units import request_tiles

        assert request_tiles()


def run(layers, pictures):
    request_units()
    (logits,) = make_runner(make_network(layers))(pictures)
    return logits


def make_pictures(height, width):
    """A photograph, noise, and the steepest edges that there are."""
    rng = np.random.default_rng(height)
    edges = np.indices((height, width)).sum(axis=0) % 2 * 255
    noise = rng.integers(0, 256, (height, width, 3))
    return np.stack([*sample_tiles(height, width, 1), noise, edges[..., None].repeat(3, axis=2)]).astype(np.uint8)


@pytest.mark.parametrize("name", CONFIGS)
def test_int8_logits_are_those_of_numpy_to_the_last_integer(name):
    config, size = CONFIGS[name]
    layers, pictures = make_layers(config, integers=True), make_pictures(*size)
    expected = judge(layers, pictures)
    # All that is left is float32 sums of k * channels products; one step of one integer moves a logit by 0.1 and more.
    np.testing.assert_allclose(run(layers, pictures), expected, rtol=2e-6, atol=1e-3)


@pytest.mark.parametrize("name", CONFIGS)
def test_bf16_logits_are_those_of_numpy_with_maps_rounded_alike(name):
    config, size = CONFIGS[name]
    layers, pictures = make_layers(config, integers=False), make_pictures(*size)
    expected = judge(layers, pictures)
    # Sums of another order are rounded to the other neighbour of eight bits here and there.
    np.testing.assert_allclose(run(layers, pictures), expected, rtol=4e-3, atol=4e-3 * np.abs(expected).max())


@pytest.mark.parametrize("integers", [True, False])
def test_ties_and_maps_that_are_all_negative(integers):
    config, size = ModelConfig(widths=(16, 16), projection=16, k=8), (20, 24)
    layers, pictures = make_layers(config, integers=integers), make_pictures(*size)
    flat = np.full_like(pictures, 91)  # no differences: each channel has one value everywhere
    # Of bfloat16 as above; integers are exact but for the linear layer's sums.
    np.testing.assert_allclose(run(layers, flat), judge(layers, flat), rtol=4e-3, atol=1e-3)
    for layer in layers.convolutions:
        layer.bias[:] = -(1 << 24)
    np.testing.assert_allclose(run(layers, pictures), judge(layers, pictures), rtol=1e-5, atol=1e-3)


def test_pictures_of_several_sizes_in_turns_and_more_of_them_than_before():
    config = ModelConfig(widths=(16, 16, 32), projection=16, k=2)
    layers = make_layers(config, integers=True)
    request_units()
    runner = make_runner(make_network(layers))
    for height, width in ((30, 42), (64, 36), (30, 42)):
        pictures = make_pictures(height, width)
        before = pictures.copy()
        np.testing.assert_allclose(runner(pictures)[0], judge(layers, pictures), rtol=2e-6, atol=1e-3)
        np.testing.assert_array_equal(pictures, before)


def test_tiles_read_nothing_behind_their_memory():
    # 32 channels of one byte fill half of the 64 that a row of a tile has.
    config = ModelConfig(widths=(16, 32), projection=16, k=2)
    network = make_network(make_layers(config, integers=True))
    space = make_workspace(network, 12, 14)
    (last,) = [array for array in space.arrays.kept if array.ctypes.data == space.room.last]
    pieces = network.ends.projection_steps
    furthest = (2 * ROWS - 1) * int(network.stages[-1, 5]) * network.ends.size + pieces * ROW_BYTES
    assert furthest <= last.nbytes
