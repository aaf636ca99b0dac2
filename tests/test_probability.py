import numpy as np
import pytest

from lfm_deploy.metrics.probability import ProbabilityDeviations, error_of_bins, expected_calibration_error


def error_by_definition(logits, labels):
    """Over the bins: their share of pictures times |mean probability - share of fakes|."""
    probabilities = 1 / (1 + np.exp(-logits.astype(float)))
    error = 0.0
    for low in range(15):
        inside = (probabilities >= low / 15) & ((probabilities < (low + 1) / 15) | (low == 14))
        if inside.any():
            error += inside.mean() * abs(probabilities[inside].mean() - labels[inside].mean())
    return error


@pytest.mark.parametrize("seed", range(5))
def test_the_error_is_its_definition(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 200)
    logits = rng.normal(3 * labels - 1.5, 4).astype(np.float32)
    # Float64 sums of 200 terms.
    assert expected_calibration_error(logits, labels) == pytest.approx(error_by_definition(logits, labels), abs=1e-12)


def test_by_hand():
    assert expected_calibration_error(np.array([0.0, 0.0]), np.array([0, 1])) == 0
    assert expected_calibration_error(np.array([0.0, 0.0]), np.array([1, 1])) == 0.5
    # A certain logit that is right costs nothing, one that is wrong everything; none of them overflows.
    assert expected_calibration_error(np.array([-800.0, 800.0, 800.0, -800.0]), np.array([0, 1, 0, 0])) == 0.25


def test_rounds_are_those_of_pictures_drawn_out():
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 2, 80), rng.normal(size=80)
    counts = rng.multinomial(80, np.full(80, 1 / 80), size=20).astype(np.uint8)
    found = error_of_bins(ProbabilityDeviations(logits, labels).sum_bins(counts), 80)
    for row, error in zip(counts, found, strict=True):
        assert error == pytest.approx(error_by_definition(np.repeat(logits, row), np.repeat(labels, row)), abs=1e-12)
