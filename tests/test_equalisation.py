import numpy as np
import onnx
import pytest

from engines.ort import open_session
from export.equalisation import LARGEST_GAIN, align_gains, apply_gains, choose_gains
from export.names import find_convolutions
from lfm_deploy.pictures.photographs import sample_tiles


def test_gains_are_powers_of_two_that_stay_inside_the_range():
    highest = np.array([0.0, 0.1, 1.0, 3.0, 4.0, 7.9, 8.0, 100.0])
    gains = choose_gains(highest, 8.0)
    assert gains.tolist() == [8, 8, 8, 2, 2, 1, 1, 1]
    assert ((highest * gains <= 8) | (gains == 1)).all()
    assert gains.max() == LARGEST_GAIN


def test_aligned_gains_put_what_channels_rest_at_on_a_step():
    gains, resting = np.array([1.0, 2.0, 4.0, 0.5, 1.0, 8.0]), np.array([3.3, 0.07, 0.9, 7.1, 0.0, 0.001])
    aligned = align_gains(gains, resting, 8.0, 255)
    codes = resting * aligned * 255 / 8
    movable = [0, 1, 2, 3]  # one rests at 0, which is a step already, and one below the second step
    assert codes[movable] == pytest.approx(np.rint(codes[movable]), abs=1e-9)
    assert (aligned <= gains).all()
    assert aligned[movable] == pytest.approx(gains[movable], rel=1 / 4)  # by a step of the four at least
    assert (aligned[4:] == gains[4:]).all()
    assert align_gains(np.ones(1), np.array([9.0]), 8.0, 255) == [1.0]  # it is cut off there, wherever steps are


def test_equalising_changes_no_logit_by_a_bit(small_graph):
    # Powers of two only move exponents, so float32 rounds every product and sum as before.
    images = {"image": sample_tiles(256, 256, 4)}
    before = onnx.load(small_graph)
    after = onnx.load(small_graph)
    apply_gains(after, "conv2", np.array([1, 2, 4, 8, 1, 2, 4, 8], float))
    apply_gains(after, "projection", np.full(16, 4.0))
    sessions = [open_session(model.SerializeToString(), "x") for model in (before, after)]
    expected, found = (session.run(["logit"], images)[0] for session in sessions)
    assert np.array_equal(expected, found)
    assert before != after


def test_a_channel_that_is_lifted_is_lifted_in_the_tensor(small_graph):
    from calib.activations import ActivationReader

    tiles = sample_tiles(256, 256, 2)
    model = onnx.load(small_graph)
    before = ActivationReader(model, ["conv3.input"]).read(tiles)["conv3.input"]
    gains = np.array([1, 2, 4, 8, 1, 2, 4, 8], float)
    apply_gains(model, "conv3", gains)
    after = ActivationReader(model, ["conv3.input"]).read(tiles)["conv3.input"]
    assert np.array_equal(after, before * gains.reshape(1, -1, 1, 1).astype(np.float32))


def test_the_first_layer_has_nothing_in_front_of_it_to_scale(small_graph):
    model = onnx.load(small_graph)
    assert [node.name for node in find_convolutions(model)].index("conv2") == 1
    with pytest.raises(ValueError, match="nothing"):
        apply_gains(model, "nothing", np.ones(3))
