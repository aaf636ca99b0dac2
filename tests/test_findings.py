import copy

import pytest
from sample_report import NASTY, NOT_RUN, make_sample

from lfm_deploy.report.findings import (
    engines_compared,
    engines_that_ran,
    flipped_pictures,
    gates_to_look_at,
    outcome_of,
    own_figures,
    published_beside,
    published_tables,
    reasons_not_run,
    worst_errors,
)


@pytest.fixture(scope="module")
def sample():
    return make_sample(per_class=20)


@pytest.fixture(scope="module")
def report(sample):
    return sample[0]


def test_only_engines_that_ran_are_compared_and_detectors_are_not(report):
    assert NOT_RUN not in [engine["name"] for engine in engines_that_ran(report)]
    assert [engine["kind"] for engine in engines_compared(report)] == ["engine"] * 4


def test_outcomes_are_the_worst_of_the_gates(report):
    found = {engine["name"]: outcome_of(engine) for engine in report["engines"]}
    assert found["pytorch fp32"] == "reference"
    assert found["NPR <foreign>"] == "detector"
    assert found[NOT_RUN] == "not run"
    gate = {"suite": "a", "outcome": "holds"}
    engine = report["engines"][1] | {"gates": [gate, gate | {"outcome": "undecided"}, gate | {"suite": "b"}]}
    assert outcome_of(engine) == outcome_of(engine, "a") == "undecided"
    assert outcome_of(engine, "b") == "holds"
    assert outcome_of(engine | {"gates": [*engine["gates"], gate | {"outcome": "fails"}]}) == "fails"


def test_failing_gates_come_before_undecided_ones(report):
    outcomes = [gate["outcome"] for _, gate in gates_to_look_at(report)]
    assert outcomes == sorted(outcomes, key=["fails", "undecided"].index)
    assert set(outcomes) == {"fails", "undecided"}


def test_each_reason_is_given_once():
    engine = {"not_run": "no CUDA device", "quantisation": None}
    outside = engine | {"name": "b", "quantisation": {"within_budget": False}}
    found = reasons_not_run({"engines": [engine | {"name": "a"}, outside, engine | {"name": "c", "not_run": None}]})
    assert found == [("no CUDA device", ["a", "b (built outside its budget)"])]


def test_a_picture_that_two_engines_flip_is_listed_once(report):
    report = copy.deepcopy(report)
    of_int8 = report["engines"][3]["suites"][0]["against"]["flipped"]
    report["engines"][4]["suites"][0]["against"]["flipped"] = [of_int8[0] | {"logit": 9.0}]
    found = flipped_pictures(report)
    assert len({picture["path"] for picture in found}) == len(found)
    (both,) = [picture for picture in found if picture["path"] == of_int8[0]["path"]]
    assert both["logits"] == {"onnxruntime int8 tensorrt": of_int8[0]["logit"], "onnxruntime int8 cpu": 9.0}
    margins = [abs(picture["margin"]) for picture in found]
    assert margins == sorted(margins, reverse=True)


def test_the_worst_errors_are_the_references_own(sample):
    worst = worst_errors(*sample, 3)
    assert worst[0][0]["path"].endswith(NASTY)
    assert [row["logit"] for row in worst[0]] == sorted((row["logit"] for row in worst[0]), reverse=True)
    assert [row["logit"] for row in worst[1]] == sorted(row["logit"] for row in worst[1])
    assert {row["engine"] for row in worst[0] + worst[1]} == {"pytorch fp32"}
    assert all(row["label"] == 0 and row["logit"] > 0 for row in worst[0])
    assert all(row["label"] == 1 and row["logit"] <= 0 for row in worst[1])


def test_yours_stand_under_the_published_lfm_with_the_difference(report):
    (name, table), *others = published_tables(report).items()
    assert others == []
    rows = list(published_beside(report, name))
    assert [name for name, change, _ in rows if change is None][-1] == "LFM"
    name, change, mine = rows[6]
    assert name == "pytorch fp32"
    theirs = table["rows"][-1]
    assert change["acc"]["adm"] == pytest.approx(mine["acc"]["adm"] - theirs["acc"]["adm"])
    assert len(list(published_beside(report, report["suites"][0]["name"], ["reference"]))) == 7


def test_what_is_not_published_has_no_difference(report):
    report = copy.deepcopy(report)
    suite = report["suites"][0]
    suite["published"]["rows"][-1]["acc"]["adm"] = None
    del suite["published"]["rows"][-1]["ap"]["ldm"]
    change = list(published_beside(report, suite["name"]))[-1][1]
    assert change["acc"]["adm"] is change["ap"]["ldm"] is None
    suite["published"]["rows"].pop()
    assert list(published_beside(report, suite["name"]))[-1][1] is None


def test_a_group_has_the_means_of_its_suites_and_that_of_all_sets(report):
    report = copy.deepcopy(report)
    names = [suite["name"] for suite in report["suites"]]
    row = {"method": "LFM", "acc": {names[0]: 90.0, "all": 80.0}, "ap": {}, "notes": []}
    report["group"] = {"name": "diffusion", "published": {"tables": ["3"], "sets": [*names, "all"], "rows": [row]}}
    assert list(published_tables(report))[-1] == "diffusion"
    _, (_, change, mine), *_ = published_beside(report, "diffusion")
    suites = report["engines"][0]["suites"]
    assert [mine["acc"][name] for name in names] == [suite["mean"]["acc"]["value"] for suite in suites]
    of_sets = [part["acc"]["value"] for suite in suites for part in suite["sets"]]
    assert mine["acc"]["all"] == pytest.approx(sum(of_sets) / len(of_sets))
    assert change["acc"]["all"] == pytest.approx(mine["acc"]["all"] - 80)
    assert change["acc"][names[1]] is None


def test_a_mean_over_other_test_sets_is_not_put_beside_the_published_one():
    value = {"value": 90.0, "low": None, "high": None}
    result = {"sets": [{"set": "a", "acc": value, "ap": value}], "mean": {"acc": value, "ap": value}}
    assert own_figures(result, ["a", "mean"])["acc"] == {"a": 90.0, "mean": 90.0}
    assert own_figures(result, ["a", "b", "mean"])["acc"] == {"a": 90.0, "b": None, "mean": None}
