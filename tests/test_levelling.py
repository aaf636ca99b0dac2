import numpy as np
import onnx
import pytest

from calib.activations import ActivationReader
from engines.ort import open_session
from export.levelling import MARGIN, choose_channel_ranges, level_channels, selected_name
from lfm_deploy.pictures.photographs import sample_tiles


@pytest.fixture(scope="module")
def tiles():
    return sample_tiles(256, 256, 6)


@pytest.fixture(scope="module")
def ranges(small_graph, tiles):
    model = onnx.load(small_graph)
    name = selected_name(model)
    selected = ActivationReader(model, [name]).read(tiles)[name]
    return choose_channel_ranges(selected.min((0, 2)), selected.max((0, 2)))


def test_ranges_hold_what_was_selected_with_a_margin():
    found = choose_channel_ranges(np.array([1.0, -2.0]), np.array([3.0, 2.0]))
    assert found.tolist() == [[1 - 2 * MARGIN, 3 + 2 * MARGIN], [-2 - 4 * MARGIN, 2 + 4 * MARGIN]]


def test_a_channel_with_one_value_has_a_range():
    ((low, high),) = choose_channel_ranges(np.array([5.0]), np.array([5.0]))
    assert low <= 5 <= high


def test_levelling_changes_no_logit(small_graph, tiles, ranges):
    before, after = onnx.load(small_graph), onnx.load(small_graph)
    level_channels(after, ranges, 255)
    onnx.checker.check_model(after, full_check=True)
    expected, found = (
        open_session(model.SerializeToString(), "x").run(["logit"], {"image": tiles})[0] for model in (before, after)
    )
    # float32 rounds 16 selected values, of up to 255 after levelling, anew; the classifier's weights are near 20.
    assert found == pytest.approx(expected, abs=16 * 255 * 6e-8 * 20)


def test_every_channel_fills_the_integers(small_graph, tiles, ranges):
    model = onnx.load(small_graph)
    level_channels(model, ranges, 255)
    (top,) = [node for node in model.graph.node if node.op_type == "TopK"]
    selected = ActivationReader(model, [top.output[0]]).read(tiles)[top.output[0]]
    # By the margin: from 1/6 to 5/6 of the levels, within float32's rounding.
    assert selected.min((0, 2)) == pytest.approx(np.full(4, 255 / 6), rel=1e-3)
    assert selected.max((0, 2)) == pytest.approx(np.full(4, 255 * 5 / 6), rel=1e-3)


def test_readers_of_the_selected_values_get_them_restored(small_graph, tiles, ranges):
    before, after = onnx.load(small_graph), onnx.load(small_graph)
    name = selected_name(before)
    level_channels(after, ranges, 255)
    assert selected_name(after) != name
    expected, found = (ActivationReader(model, [name]).read(tiles)[name] for model in (before, after))
    assert found == pytest.approx(expected, abs=1e-6 * float((ranges[:, 1] - ranges[:, 0]).max()))  # float32
