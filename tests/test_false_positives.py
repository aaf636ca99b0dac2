import numpy as np
import pytest
from scipy.stats import binomtest, norm

from lfm_deploy.errors import MetricError
from lfm_deploy.metrics.false_positives import choose_threshold, most_exceedances, pictures_for_claim, upper_bound

NONE = np.empty(0)


@pytest.mark.parametrize(("found", "pictures"), [(0, 299), (1, 500), (7, 80), (80, 80)])
def test_the_bound_is_that_of_scipy(found, pictures):
    # A one-sided bound of 95 % is the upper end of a two-sided interval of 90 %.
    expected = binomtest(found, pictures).proportion_ci(0.90, method="exact").high
    assert upper_bound(found, pictures) == pytest.approx(expected, rel=1e-9)  # SciPy looks for the root by steps


@pytest.mark.parametrize(("rate", "need"), [(0.01, 299), (0.001, 2995), (0.05, 59)])
def test_how_many_pictures_a_claim_needs(rate, need):
    assert pictures_for_claim(rate) == need
    assert most_exceedances(need, rate) == 0
    assert most_exceedances(need - 1, rate) is None


@pytest.mark.parametrize("pictures", [299, 480, 1000, 5000])
def test_one_more_above_the_threshold_would_break_the_claim(pictures):
    allowed = most_exceedances(pictures, 0.01)
    assert upper_bound(allowed, pictures) <= 0.01 < upper_bound(allowed + 1, pictures)


def test_a_threshold_keeps_its_rate_on_all_pictures_of_its_distribution():
    # The true rate above a threshold is known for the normal distribution: no sample is needed to judge it.
    rng = np.random.default_rng(0)
    broken = sum(norm.sf(choose_threshold(rng.normal(size=700), NONE, 0.02)) > 0.02 for _ in range(2000))
    # Promised in 95 % of cases: of 2000 at most 5 %, with four standard deviations of a binomial (39) to spare.
    assert broken <= 100 + 39
    # A threshold that keeps its rate by being far too high would keep it nearly always.
    assert broken >= 20


def test_a_threshold_by_the_share_of_the_sample_would_not_keep_its_rate():
    # What people do: the quantile of the sample. It breaks the rate in half of the cases, and this test sees that.
    rng = np.random.default_rng(0)
    broken = sum(norm.sf(np.quantile(rng.normal(size=700), 0.98)) > 0.02 for _ in range(500))
    assert broken > 200


def test_no_picture_lies_on_the_threshold():
    rng = np.random.default_rng(1)
    real, fake = rng.normal(size=400), rng.normal(3, 1, size=400)
    threshold = choose_threshold(real, fake, 0.02, least_gap=1e-3)
    assert np.abs(np.concatenate([real, fake]) - threshold).min() > 2e-4
    assert threshold == np.float32(threshold)


def test_many_equal_logits_are_all_on_the_safe_side():
    real = np.array([0.0] * 300 + [5.0] * 200)
    assert choose_threshold(real, NONE, 0.01) > 5


def test_too_few_pictures_and_no_numbers_are_refused():
    with pytest.raises(MetricError, match=r"298 pictures cannot show a rate below 1 %.*299"):
        choose_threshold(np.zeros(298), NONE, 0.01)
    with pytest.raises(MetricError, match="no finite number"):
        choose_threshold(np.array([np.nan] * 300), NONE, 0.01)
