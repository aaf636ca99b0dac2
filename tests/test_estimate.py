import numpy as np
import pytest
from scipy.stats import binomtest

from lfm_deploy.metrics.estimate import (
    Estimate,
    percentile_interval,
    resolution,
    reversed_interval,
    share_interval,
    widen,
)


@pytest.mark.parametrize("pictures", [1, 24, 965, 3688])
def test_what_pictures_resolve_is_the_exact_upper_bound_of_what_was_never_seen(pictures):
    # Float64 rounding of a power against the root of a beta distribution.
    assert resolution(pictures) == pytest.approx(binomtest(0, pictures).proportion_ci(0.95).high, abs=1e-12)


def test_percentiles():
    rounds = np.arange(1001) / 1000
    assert percentile_interval(0.5, rounds) == Estimate(0.5, pytest.approx(0.025), pytest.approx(0.975))


def test_an_interval_holds_its_figure():
    assert percentile_interval(2, np.array([0.0, 1.0])).high == 2
    assert percentile_interval(-2, np.array([0.0, 1.0])).low == -2


def test_a_share_without_width_has_what_the_pictures_resolve():
    assert share_interval(1, np.ones(10), 24) == Estimate(1, 1 - resolution(24), 1)
    assert share_interval(0.5, np.full(10, 0.5), 1) == Estimate(0.5, 0, 1)
    rounds = np.linspace(0.4, 0.6, 100)
    assert share_interval(0.5, rounds, 24) == percentile_interval(0.5, rounds)


def test_a_reversed_interval_lies_on_the_other_side():
    found = reversed_interval(0.3, np.linspace(0.32, 0.42, 1001))
    assert (found.low, found.high) == (pytest.approx(0.6 - 0.4175), 0.3)
    assert reversed_interval(0.01, np.linspace(0.02, 0.05, 11)).low == 0


def test_widening():
    assert widen(Estimate(0, -0.1, 0.3), 0.2, lowest=-1, highest=1) == Estimate(0, -0.2, 0.3)
    assert widen(Estimate(0.9, 0.8, 1), 0.4, lowest=0, highest=1) == Estimate(0.9, 0.5, 1)
