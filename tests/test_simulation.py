import numpy as np
import onnx
import pytest

from calib.activations import ActivationReader
from engines.ort import open_session
from export.equalisation import apply_gains, choose_gains
from export.levelling import choose_channel_ranges, level_channels
from export.names import LAST_OUTPUT
from export.precision import Int8Config
from export.simulation import simulate_tensor
from export.splitting import split_channels
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.quantisation import Recipe

TILES = sample_tiles(256, 256, 4)


@pytest.fixture(scope="module")
def base(small_graph):
    return onnx.shape_inference.infer_shapes(onnx.load(small_graph))


def simulated(base, config, tensor):
    values = ActivationReader(base, [tensor]).read(TILES)
    return open_session(simulate_tensor(base, config, tensor).SerializeToString(), "x").run(["logit"], values)[0]


def quantised_here(model, tensor, scale, zero, least, most):
    """The logits of a whole graph, made ready by hand, in which one tensor passes through integers of ours."""
    values = ActivationReader(model, [tensor]).read(TILES)[tensor].astype(np.float64)
    restored = (np.clip(np.rint(values / scale) + zero, least, most) - zero) * scale
    behind = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(model)).extract_model([tensor], ["logit"])
    return open_session(behind.SerializeToString(), "x").run(["logit"], {tensor: restored.astype(np.float32)})[0]


# A value within float32's rounding of a half may become the next integer. One step of one value in a hundred thousand:
# the random weights carry it to the logit as up to 1e-3 of the spread.
TOLERANCE = {"abs": 5e-3}


@pytest.mark.parametrize(("recipe", "least", "most"), [(Recipe.CPU, 0, 255), (Recipe.TENSORRT, -128, 127)])
def test_a_range_alone(base, recipe, least, most):
    high = float(ActivationReader(base, ["conv2.input"]).read(TILES)["conv2.input"].max()) / 2
    found = simulated(base, Int8Config(recipe=recipe, ranges={"conv2.input": (0.0, high)}), "conv2.input")
    scale = high / most if recipe is Recipe.CPU else float(np.float16(high / most))
    assert found == pytest.approx(quantised_here(base, "conv2.input", scale, 0, least, most), **TOLERANCE)
    assert np.abs(found - quantised_here(base, "conv2.input", 1e-6, 0, 0, 1e12)).max() > 10 * TOLERANCE["abs"]


def test_equalised_and_in_parts_it_is_what_the_weights_would_give(base):
    values = ActivationReader(base, ["conv3.input"]).read(TILES)["conv3.input"]
    highest = values.max(axis=(0, 2, 3))
    high = float(highest.max()) / 2.5
    parts = np.where(highest > high, 2, 1)
    parts[int(highest.argmax())] = 3
    gains = choose_gains(highest, high)
    assert gains.max() > 1
    config = Int8Config(
        recipe=Recipe.CPU,
        ranges={"conv3.input": (0.0, high)},
        gains={"conv3.input": gains},
        parts={"conv3.input": parts},
    )
    whole = onnx.ModelProto()
    whole.CopyFrom(base)
    apply_gains(whole, "conv3", gains)
    split_channels(whole, "conv3", parts, float(np.float32(high / 255)) * 255)
    expected = quantised_here(whole, "conv3.input", high / 255, 0, 0, 255)
    assert simulated(base, config, "conv3.input") == pytest.approx(expected, **TOLERANCE)


def test_levelled_it_is_what_the_weights_would_give(base):
    (top,) = [node for node in base.graph.node if node.op_type == "TopK"]
    selected = ActivationReader(base, [top.output[0]]).read(TILES)[top.output[0]]
    ranges = choose_channel_ranges(selected.min((0, 2)), selected.max((0, 2)))
    config = Int8Config(recipe=Recipe.CPU, ranges={LAST_OUTPUT: (0.0, 0.0)}, channel_ranges=ranges)
    whole = onnx.ModelProto()
    whole.CopyFrom(base)
    level_channels(whole, ranges, 255)
    expected = quantised_here(whole, LAST_OUTPUT, 1.0, 0, 0, 255)
    # Half a step where a value lies near a half: a 255th of a channel's range, times the classifier's weights near 20.
    assert simulated(base, config, LAST_OUTPUT) == pytest.approx(expected, abs=0.05 * float(np.abs(expected).max()))
    assert np.abs(simulated(base, config, LAST_OUTPUT) - expected).mean() < 0.02 * float(expected.std())


def test_a_tensor_with_two_signs_has_a_zero_point(base):
    values = ActivationReader(base, [LAST_OUTPUT]).read(TILES)[LAST_OUTPUT]
    low, high = float(values.min()), float(values.max())
    assert low < 0 < high
    config = Int8Config(recipe=Recipe.CPU, ranges={LAST_OUTPUT: (low, high)})
    scale = float(np.float32((high - low) / 255))
    expected = quantised_here(base, LAST_OUTPUT, scale, round(-low / scale), 0, 255)
    assert simulated(base, config, LAST_OUTPUT) == pytest.approx(expected, abs=0.02 * float(np.abs(expected).max()))


def test_the_base_is_left_as_it_is(base):
    before = base.SerializeToString(deterministic=True)
    simulate_tensor(base, Int8Config(recipe=Recipe.CPU, ranges={"conv2.input": (0.0, 1.0)}), "conv2.input")
    assert base.SerializeToString(deterministic=True) == before
