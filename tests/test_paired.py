import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binom

from lfm_deploy.metrics.paired import (
    effective_pictures,
    estimate_change,
    estimate_rate,
    mcnemar_p,
    measure_logit_error,
)


@pytest.mark.parametrize(("found", "pictures"), [(0, 50), (1, 50), (7, 965), (50, 50)])
def test_a_rate_has_the_interval_that_its_binomial_tails_give(found, pictures):
    rate = estimate_rate(found, pictures)
    assert rate.value == found / pictures
    # Rates at which so few, or so many, are seen with a chance of 2.5 %; brentq is exact to 2e-12.
    low = brentq(lambda p: binom.sf(found - 1, pictures, p) - 0.025, 1e-9, 1) if found else 0
    high = brentq(lambda p: binom.cdf(found, pictures, p) - 0.025, 0, 1 - 1e-9) if found < pictures else 1
    assert (rate.low, rate.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


@pytest.mark.parametrize(("better", "worse"), [(0, 1), (3, 1), (0, 6), (5, 5), (2, 11)])
def test_mcnemar_is_the_two_sided_chance_of_such_flips(better, worse):
    flips = better + worse
    chances = binom.pmf(np.arange(flips + 1), flips, 0.5)
    # Both tails as far out as this; float64 sums.
    assert mcnemar_p(better, worse) == pytest.approx(min(1, 2 * chances[: min(better, worse) + 1].sum()), abs=1e-12)
    assert mcnemar_p(better, worse) == mcnemar_p(worse, better)


def test_without_flips_nothing_speaks_for_a_difference():
    assert mcnemar_p(0, 0) == 1


def test_logit_errors():
    reference = np.zeros(101, dtype=np.float32)
    error = measure_logit_error(np.linspace(-1, 1, 101, dtype=np.float32), reference)
    assert error.max == 1
    assert error.mean == pytest.approx(52 / 101 * 0.98, abs=0.01)
    assert (error.p50, error.p95, error.p99) == (
        pytest.approx(0.5, abs=0.02),  # steps of 0.02
        pytest.approx(0.95, abs=0.02),
        pytest.approx(0.99, abs=0.02),
    )
    assert np.isnan(measure_logit_error(np.array([np.nan, 1]), np.zeros(2)).max)


def test_sets_of_one_size_count_all_their_pictures_and_a_small_one_most():
    assert effective_pictures([50]) == 50
    assert effective_pictures([50, 50]) == pytest.approx(100)
    # Kish: (sum of weights)^2 / sum of squared weights, with weights 1 / (sets * pictures of the set).
    weights = np.repeat([1 / 2000, 1 / 20], [1000, 10])
    assert effective_pictures([1000, 10]) == pytest.approx(weights.sum() ** 2 / (weights**2).sum())


def test_a_change_is_the_difference_of_the_same_rounds():
    rounds = np.random.default_rng(0).normal(0.9, 0.02, 500)
    found = estimate_change(0.91, 0.9, rounds + 0.01, rounds, effective=1e6, always_floored=False)
    # Engines that move together differ by the same in every round, however wide each of them is.
    assert found.sampled.width == pytest.approx(0, abs=1e-12)
    assert found.floored


def test_least_width():
    rounds = np.linspace(0.8, 0.9, 100)
    for always, floored in ((True, True), (False, False)):
        found = estimate_change(0.85, 0.85, rounds, rounds[::-1], effective=10, always_floored=always)
        assert found.floored is floored
    assert found.estimate == found.sampled
    found = estimate_change(0.85, 0.85, rounds, rounds, effective=10, always_floored=False)
    assert found.estimate.high == pytest.approx(1 - 0.025 ** (1 / 10), abs=1e-12)
