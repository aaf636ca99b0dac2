import copy
import xml.etree.ElementTree as ET  # the name that everyone uses

import pytest
from sample_report import NOT_RUN, make_sample

from lfm_deploy.report.junit import make_junit


@pytest.fixture(scope="module")
def report():
    return make_sample(per_class=20)[0]


def parse(report):
    return ET.fromstring(make_junit(report))  # noqa: S314  # our own


def test_a_suite_an_engine_and_a_case_a_gate(report):
    root = parse(report)
    engines = [engine for engine in report["engines"] if engine["kind"] == "engine"]
    assert [suite.get("name") for suite in root] == [engine["name"] for engine in engines]
    for suite, engine in zip(root, engines, strict=True):
        names = [case.get("name") for case in suite.iter("testcase")]
        assert names == [f"{gate['suite']}: {gate['name']}" for gate in engine["gates"]] or engine["not_run"]


def test_counts_are_those_of_what_is_inside(report):
    root = parse(report)
    for element in (root, *root):
        for key, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(element.get(key)) == len(list(element.iter(tag)))
    assert int(root.get("failures")) >= 1
    assert int(root.get("skipped")) >= 2


def test_outcomes_are_failures_and_skips_with_their_reasons(report):
    root = parse(report)
    gates = {
        (engine["name"], f"{gate['suite']}: {gate['name']}"): gate
        for engine in report["engines"]
        for gate in engine["gates"]
    }
    for case in root.iter("testcase"):
        children = list(case)
        if case.get("classname") == NOT_RUN:
            assert [(child.tag, child.get("message")) for child in children] == [("skipped", "not run: no CUDA device")]
            continue
        gate = gates[case.get("classname"), case.get("name")]
        if gate["outcome"] == "holds":
            assert children == []
        elif gate["outcome"] == "fails":
            assert [(child.tag, child.get("message")) for child in children] == [("failure", gate["text"])]
        else:
            (child,) = children
            assert child.tag == "skipped"
            assert child.get("message").startswith("undecided: need ≥ 12,000 pictures; ")


def test_the_environment_is_in_the_properties(report):
    suite = parse(report)[0]
    found = {element.get("name"): element.get("value") for element in suite.iter("property")}
    assert found["processor"] == "A processor <with> 2 cores"
    assert found["onnxruntime"] == "1.23.0"
    assert found["sha256"] == report["engines"][1]["sha256"]
    assert suite[0].tag == "properties"


def test_nothing_verified_is_an_error(report):
    report = copy.deepcopy(report)
    report["engines"] = [report["engines"][0], report["engines"][-1]]
    report["verdict"] |= {"outcome": "nothing", "text": "NOTHING VERIFIED on CPU"}
    root = parse(report)
    assert (root.get("errors"), root.get("skipped")) == ("1", "1")
    assert next(root.iter("error")).get("message") == "NOTHING VERIFIED on CPU"


@pytest.mark.parametrize("bad", ["\x00", "\x1b[31m", "\x0b", "\ud800", "\uffff"])
def test_what_xml_forbids_is_replaced(report, bad):
    report = copy.deepcopy(report)
    report["engines"][1]["name"] = f"a{bad}b"
    name = parse(report)[0].get("name")
    assert name.startswith("a\N{REPLACEMENT CHARACTER}")
    assert name.endswith("b")


def test_what_xml_allows_is_kept(report):
    report = copy.deepcopy(report)
    report["engines"][1]["name"] = name = "<a> & \"b\" 'c' 画像 \U0001f40e"
    assert parse(report)[0].get("name") == name
