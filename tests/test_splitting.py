import numpy as np
import onnx
import pytest

from calib.activations import ActivationReader
from engines.ort import open_session
from export.names import find_convolutions
from export.splitting import count_parts, split_channels
from lfm_deploy.pictures.photographs import sample_tiles


def test_the_loudest_channels_get_the_extra_parts():
    highest = np.array([10.0, 1, 1, 1, 35, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, *np.zeros(16)])
    parts = count_parts(highest, 10.0)
    assert parts[4] == 4  # 35 in tens
    assert parts.sum() == len(highest) + 3  # the fourth extra channel that there is room for is not needed
    assert count_parts(highest, 100.0).tolist() == [1] * 32


def test_no_more_channels_than_an_eighth():
    assert count_parts(np.full(16, 1e6), 1.0).sum() == 18


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
    parts = np.ceil(values.max(axis=(0, 2, 3)) / high).astype(np.int64).clip(1)
    assert 1 < parts.max() <= 3
    split = onnx.load(small_graph)
    sources = split_channels(split, "conv2", parts, high)
    assert len(sources) == parts.sum()
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
    assert split_channels(model, "conv3", parts, 1.0).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 1, 3, 3]
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    before, after = (node for node in find_convolutions(model) if node.name in ("conv2", "conv3"))
    assert (weights[before.input[1]][0], weights[after.input[1]][1]) == (11, 11)
