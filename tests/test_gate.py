import pytest

from lfm_deploy.metrics.estimate import Estimate
from lfm_deploy.metrics.gate import judge_exactly, judge_interval


@pytest.mark.parametrize(
    ("estimate", "outcome", "need"),
    [
        (Estimate(0.05, 0, 0.1), "holds", None),
        (Estimate(0.3, 0.11, 0.5), "fails", None),
        (Estimate(0.05, 0, 0.2), "undecided", 800),
        (Estimate(0.3, 0.05, 0.5), "undecided", 800),
    ],
)
def test_the_interval_decides_and_not_the_point(estimate, outcome, need):
    gate = judge_interval("suite", "flips in %", estimate, 0.1, pictures=100, need=800)
    assert (str(gate.outcome), gate.need) == (outcome, need)
    assert ("need ≥ 800 pictures like these (have 100)" in gate.text) is (outcome == "undecided")
    assert "\n" not in gate.text


def test_where_no_number_of_pictures_would_do_it_says_so():
    gate = judge_interval("suite", "flips in %", Estimate(0.1, 0, 0.2), 0.1, pictures=100, need=None)
    assert gate.text == (
        "flips in % is 0.1 (95 %: 0 to 0.2), allowed 0.1: undecided, and so close to the limit that no number of "
        "pictures would decide it"
    )


@pytest.mark.parametrize(("value", "outcome"), [(0, "holds"), (1, "holds"), (1.01, "fails"), (None, "fails")])
def test_exact_gates_have_no_interval(value, outcome):
    gate = judge_exactly("suite", "flips", value, 1)
    assert (gate.value, gate.low, gate.high, str(gate.outcome), gate.need) == (value, value, value, outcome, None)
    assert gate.text == f"flips is {'undefined' if value is None else f'{value:.3g}'}, allowed 1"
