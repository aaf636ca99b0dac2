import pytest

from lfm_deploy.metrics.estimate import EstimateValues
from lfm_deploy.report.engine_schema import GateValues
from lfm_deploy.report.figures import (
    show_estimate,
    show_fps,
    show_interval,
    show_moment,
    show_need,
    show_number,
    show_probability,
    show_share,
    show_size,
)

WHOLE: EstimateValues = {"value": 94.26, "low": 92.84, "high": 95.7}
BARE: GateValues = {
    "suite": "mine",
    "name": "ACC %",
    "value": 94.26,
    "low": None,
    "high": None,
    "limit": 1.0,
    "outcome": "undecided",
    "need": 12000,
    "text": "undecided",
}


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (show_estimate(WHOLE), "94.3 [92.8, 95.7]"),
        (show_estimate(WHOLE, short=True), "94.3 ±1.4"),
        (show_estimate({"value": -0.001, "low": -0.5, "high": 0.1}, "+z.2f"), "+0.00 [-0.50, +0.10]"),
        (show_estimate({"value": -0.001, "low": -0.5, "high": 0.1}, "+z.2f", short=True), "+0.00 ±0.50"),
        (show_estimate(BARE), "94.3"),
        (show_estimate(None), "-"),
        (show_interval(None), ""),
        (show_moment("2026-11-25T02:03:04+00:00"), "2026-11-25 02:03 UTC"),
        (show_interval(WHOLE), "92.8 to 95.7"),
        (show_interval(BARE), ""),
        (show_number(None), "-"),
        (show_probability(None), "-"),
        (show_probability(0.0312), "0.031"),
        (show_probability(3e-9), "< 0.0001"),
        (show_probability(1.0), "1"),
        (show_share(0.666), "67 %"),
        (show_need(BARE), "need ≥ 12,000 pictures"),
        (show_need({**BARE, "need": None}), ""),
        (show_fps(1234.5), "1,234"),
        (show_fps(34.56), "34.6"),
        (show_fps(None), "-"),
        (show_size(256), "256 x 256 pixels"),
        (show_size("native"), "native size"),
    ],
)
def test_figures_are_written_in_one_way(shown, text):
    assert shown == text
