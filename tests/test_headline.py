import copy

import pytest
from sample_report import make_sample

from lfm_deploy.report.headline import key_figures


@pytest.fixture
def report():
    return copy.deepcopy(make_sample(per_class=8)[0])


def test_over_several_suites_means_are_over_all_test_sets(report):
    accuracy, precision, *_ = key_figures(report)
    values = [
        part["acc"]["value"] for suite in report["engines"][0]["suites"] for part in suite["sets"] if part["fake"]
    ]
    assert accuracy.value == f"{sum(values) / len(values):.1f} %"
    assert accuracy.note == precision.note == "of the checkpoint, mean over 9 test sets"


def test_over_one_suite_there_is_an_interval(report):
    for engine in report["engines"]:
        engine["suites"] = engine["suites"][:1]
    mean = report["engines"][0]["suites"][0]["mean"]["acc"]
    assert key_figures(report)[0].note == f"of the checkpoint, 95 %: {mean['low']:.1f} to {mean['high']:.1f}"


def test_changed_decisions_are_counted_over_suites(report):
    flips = {
        engine["name"]: sum(suite["against"]["flips"] for suite in engine["suites"])
        for engine in report["engines"]
        if engine["kind"] == "engine" and engine["suites"]
    }
    figure = key_figures(report)[2]
    assert figure.value == f"{min(flips.values())} to {max(flips.values())}"
    assert figure.note == f"of {19 * 8}; most in onnxruntime int8 tensorrt"
    for engine in report["engines"]:
        for suite in engine["suites"]:
            if suite["against"]:
                suite["against"]["flips"] = 0
    assert (key_figures(report)[2].value, key_figures(report)[2].note) == ("0", "of 152, in every engine that ran")


def test_the_fastest_is_one_that_holds_its_gates(report):
    figure = key_figures(report)[3]
    assert figure.value == "51.7 pictures/s"  # INT8 on the CPU is faster, and undecided
    assert figure.note == "onnxruntime fp32, batch 32, 1.5 x PyTorch"
    for engine in report["engines"]:
        engine["gates"] = [gate | {"outcome": "fails"} for gate in engine["gates"]]
    assert len(key_figures(report)) == 3


def test_where_nothing_ran_there_are_none(report):
    assert key_figures(report | {"engines": report["engines"][-1:]}) == []
