import numpy as np
import onnx
import pytest

from calib.activations import ActivationReader
from engines.ort import open_session
from export.names import find_convolutions
from export.splitting import (
    LARGEST_GAIN,
    choose_part_gains,
    count_parts,
    cut_into_parts,
    join_parts,
    place_parts,
    split_channels,
    widest_part,
)
from lfm_deploy.pictures.photographs import sample_tiles


def test_the_channel_with_the_coarsest_steps_that_matter_gets_the_next_part():
    reach = np.array([35.0, 1, 1, 1, 10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, *np.ones(16)])
    parts = count_parts(reach, np.ones(32))
    # First parts of 35, 11.7, 5, 2.3, 1.1 and 0.6 where 35 is to be reached, and in between of 10, 3.3, 1.4 and 0.7.
    assert (parts[0], parts[4], parts.sum()) == (6, 4, 40)
    assert count_parts(reach, np.where(np.arange(32) == 4, 100.0, 1.0))[4] == 7
    assert count_parts(np.full(16, 1e6), np.ones(16)).sum() == 20


def test_gains_let_each_channel_reach_what_is_to_be_kept():
    reach, parts = np.array([30.0, 7.0, 2.0, 0.01]), np.array([2, 1, 1, 1])
    high = widest_part(reach, parts)
    assert high == 10
    gains = choose_part_gains(reach, parts, high)
    assert gains[:3] * reach[:3] == pytest.approx(high * (2.0 ** parts[:3] - 1))
    assert gains[3] == LARGEST_GAIN * gains.min()


def test_parts_add_up_to_the_channel_and_each_ends_at_its_width():
    parts = np.array([1, 3, 2])
    values = np.random.default_rng(0).uniform(0, 1, (2, 3, 4, 4)).astype(np.float32) * np.array([1, 7, 3]).reshape(
        3, 1, 1
    )
    cut = cut_into_parts(values.astype(np.float32), parts, 1.0)
    assert cut.shape == (2, 6, 4, 4)
    assert (cut.min(), cut.max()) == (0, pytest.approx(1, abs=0.1))
    assert join_parts(cut, parts) == pytest.approx(values, rel=1e-6)
    beyond = join_parts(cut_into_parts(np.full((1, 3, 1, 1), 99, np.float32), parts, 1.0), parts)
    assert beyond.ravel().tolist() == [1, 7, 3]


def saturate(model, tensor, high):
    """The model with one tensor clipped at ``high``, as an integer tensor clips it."""
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == tensor:
                node.input[index] = "clipped"
    (place,) = [index for index, node in enumerate(model.graph.node) if tensor in node.output]
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in (("least", 0), ("most", high))
    )
    model.graph.node.insert(place + 1, onnx.helper.make_node("Clip", [tensor, "least", "most"], ["clipped"]))


def logits(model):
    return open_session(model.SerializeToString(), "x").run(["logit"], {"image": sample_tiles(256, 256, 4)})[0]


def test_parts_that_saturate_add_up_to_the_channel(small_graph):
    tiles = sample_tiles(256, 256, 4)
    whole = onnx.load(small_graph)
    values = ActivationReader(whole, ["conv2.input"]).read(tiles)["conv2.input"]
    high = float(values.max()) / 3
    parts = np.where(values.max(axis=(0, 2, 3)) > high, 2, 1)  # two parts reach three times as far
    assert parts.max() == 2
    split = onnx.load(small_graph)
    split_channels(split, "conv2", parts, high)
    saturate(split, "conv2.input", high)
    onnx.checker.check_model(split, full_check=True)
    # Sums of the same products in another order: seen 2e-6 of the largest logit.
    assert logits(split) == pytest.approx(logits(whole), abs=1e-4)


def test_without_parts_the_same_range_would_clip(small_graph):
    whole, clipped = onnx.load(small_graph), onnx.load(small_graph)
    high = float(ActivationReader(whole, ["conv2.input"]).read(sample_tiles(256, 256, 4))["conv2.input"].max()) / 3
    saturate(clipped, "conv2.input", high)
    assert np.abs(logits(clipped) - logits(whole)).max() > 0.1


def test_the_new_channels_follow_the_old_ones(small_graph):
    model = onnx.load(small_graph)
    parts = np.array([1, 2, 1, 3, 1, 1, 1, 1])
    sources, widths, begins = place_parts(parts)
    assert sources.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 1, 3, 3]
    assert widths.tolist() == [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 4]
    assert begins.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 3]
    split_channels(model, "conv3", parts, 1.0)
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    before, after = (node for node in find_convolutions(model) if node.name in ("conv2", "conv3"))
    assert (weights[before.input[1]][0], weights[after.input[1]][1]) == (11, 11)
