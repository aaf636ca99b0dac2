import numpy as np
import pytest

from export.rounding import choose_scales, refine_scales, round_weights


@pytest.fixture(scope="module")
def layer():
    """A layer whose inputs are positive and go together, as behind a ReLU, with their moments."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(16, 8, 2, 2))
    common = rng.exponential(1, (5000, 1))
    inputs = common * rng.uniform(0.5, 1.5, 32) + rng.exponential(0.3, (5000, 32))
    return weight, inputs, inputs.T @ inputs / len(inputs)


def error(codes, scales, weight, inputs):
    change = (codes * scales.reshape(-1, 1, 1, 1) - weight).reshape(len(weight), -1)
    return float(np.square(inputs @ change.T).mean())


def test_scales_are_filled_by_the_largest_weight_of_each_channel():
    weight = np.array([[[[0.5, -2.54]]], [[[0.0, 0.0]]], [[[1.27, 1.0]]]])
    assert choose_scales(weight) == pytest.approx([0.02, 1 / 127, 0.01])


def test_answers_change_less_than_with_rounding_to_nearest(layer):
    weight, inputs, moments = layer
    scales = choose_scales(weight)
    nearest = np.rint(weight / scales.reshape(-1, 1, 1, 1))
    assert error(round_weights(weight, scales, moments), scales, weight, inputs) < 0.5 * error(
        nearest, scales, weight, inputs
    )


def test_every_code_is_one_of_int8s(layer):
    weight, _, moments = layer
    codes = round_weights(weight, choose_scales(weight) / 2, moments)  # half of the largest weights do not fit
    assert codes.dtype == np.int8
    assert codes.shape == weight.shape
    assert (codes.min(), codes.max()) == (-127, 127)


def test_inputs_that_do_not_go_together_are_rounded_to_nearest(layer):
    weight, _, _ = layer
    scales = choose_scales(weight)
    codes = round_weights(weight, scales, np.diag(np.linspace(1, 2, 32)))
    assert np.array_equal(codes, np.rint(weight / scales.reshape(-1, 1, 1, 1)))


def test_inputs_that_never_vary_do_no_harm(layer):
    weight, _, _ = layer
    codes = round_weights(weight, choose_scales(weight), np.zeros((32, 32)))
    assert np.abs(codes).max() == 127


def test_scales_of_rows_with_few_weights_are_those_that_change_answers_least():
    rng = np.random.default_rng(0)
    inputs = np.abs(rng.normal(size=(500, 12))) * 20
    moments = inputs.T @ inputs / len(inputs)
    weight = rng.normal(size=(40, 3, 2, 2)).astype(np.float32)
    plain = choose_scales(weight)
    refined = refine_scales(weight, plain, moments)

    def spread(scales):
        changes = round_weights(weight, scales, moments) * scales.reshape(-1, 1, 1, 1) - weight
        return np.sqrt(np.mean((inputs @ changes.reshape(40, 12).T) ** 2, axis=0))

    assert (spread(refined) <= spread(plain) * (1 + 1e-9)).all()
    assert np.median(spread(refined) / spread(plain)) < 0.8  # 0.77 was seen
    wide = rng.normal(size=(4, 20, 2, 2)).astype(np.float32)
    assert np.array_equal(refine_scales(wide, choose_scales(wide), np.eye(80)), choose_scales(wide))
