import pytest

from lfm_deploy.metrics.estimate import Estimate, resolution
from lfm_deploy.metrics.paired import estimate_rate
from lfm_deploy.metrics.sample_size import is_decided, magnitude, pictures_for_change, pictures_for_rate


def test_an_interval_decides_where_it_lies_on_one_side():
    assert is_decided(0, 0.1, 0.1)
    assert is_decided(0.11, 0.3, 0.1)
    assert not is_decided(0.1, 0.3, 0.1)  # its lower end holds
    assert not is_decided(0.05, 0.3, 0.1)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.3, 0.1, (0, 0.3)), (0.1, 0.3, (0.1, 0.3)), (-0.3, -0.1, (0.1, 0.3)), (0, 0, (0, 0))],
)
def test_either_direction_counts(low, high, expected):
    assert magnitude(low, high) == expected


def test_the_rule_of_three():
    assert pictures_for_rate(0, 0.001) == 3688
    assert resolution(3688) <= 0.001 < resolution(3687)


@pytest.mark.parametrize(("rate", "limit"), [(0, 0.007), (0.004, 0.007), (0.01, 0.007)])
def test_so_many_pictures_decide_a_rate_and_a_tenth_less_do_not(rate, limit):
    need = pictures_for_rate(rate, limit)
    # On the next number of pictures that has a whole number of flips.
    whole = need if rate == 0 else -(-need // 500) * 500
    found = estimate_rate(round(rate * whole), whole)
    assert is_decided(found.low, found.high, limit)
    fewer = round(0.9 * need) if rate == 0 else int(0.9 * need // 500) * 500
    found = estimate_rate(round(rate * fewer), fewer)
    assert not is_decided(found.low, found.high, limit)


def test_an_interval_shrinks_with_the_root_of_pictures():
    # Half-width 0.4 at 100 pictures, 0.1 wanted: 16 times as many.
    assert pictures_for_change(Estimate(0, -0.4, 0.4), 0.1, 100) == 1600
    assert pictures_for_change(Estimate(0.3, -0.1, 0.7), 0.1, 100) == 401  # the lower end must pass the limit
    assert pictures_for_change(Estimate(-0.3, -0.7, 0.1), 0.1, 100) == 401


def test_what_pictures_resolve_shrinks_with_their_number():
    assert pictures_for_change(Estimate(0, 0, 0), 0.001, 965, 965) == 3688
    # Two sets of which a small one says how sure the mean is: ten times as many are needed in the same mixture.
    assert pictures_for_change(Estimate(0, 0, 0), 0.001, 965, 96.5) == pytest.approx(36870, abs=10)


def test_a_figure_on_its_limit_asks_for_no_number():
    assert pictures_for_rate(0.01, 0.01) is None
    assert pictures_for_change(Estimate(0.1, 0, 0.2), 0.1, 100) is None
