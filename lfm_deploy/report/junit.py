"""The report for CI, as JUnit XML: a test suite an engine, a test case a gate; a view of the JSON."""

import re
import xml.etree.ElementTree as ET  # the name that everyone uses
from collections.abc import Mapping

from lfm_deploy.report.engine_schema import EngineValues, GateValues
from lfm_deploy.report.figures import show_need
from lfm_deploy.report.findings import COMPARED
from lfm_deploy.report.schema import Report

# What XML 1.0 cannot hold, not even escaped; a file name can.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def make_junit(report: Report) -> bytes:
    """The report as JUnit XML, UTF-8.

    A gate that fails is a failure, one that is undecided is skipped, and so is an engine that was not run. Where
    nothing could be compared there is an error, so that CI does not take silence for success.

    Args:
        report: report from ``make_report``.
    """
    suites = [_engine(engine, report) for engine in report["engines"] if engine["kind"] in COMPARED]
    if report["verdict"]["outcome"] == "nothing":
        suites.append(_nothing(report))
    root = ET.Element("testsuites", name="lfm-deploy verify")
    for suite in suites:
        _count(suite)
        root.append(suite)
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in suites)))
    ET.indent(root)
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _engine(engine: EngineValues, report: Report) -> ET.Element:
    suite = _suite(engine["name"], report)
    _property(suite, "file", engine["file"])
    _property(suite, "sha256", engine["sha256"])
    if engine["not_run"] is not None:
        case = ET.SubElement(suite, "testcase", classname=_clean(engine["name"]), name="runs on this machine")
        ET.SubElement(case, "skipped", message=_clean(f"not run: {engine['not_run']}"))
    for gate in engine["gates"]:
        name = f"{gate['suite']}: {gate['name']}"
        case = ET.SubElement(suite, "testcase", classname=_clean(engine["name"]), name=_clean(name))
        if gate["outcome"] == "fails":
            ET.SubElement(case, "failure", message=_clean(gate["text"]), type="gate").text = _clean(gate["text"])
        elif gate["outcome"] == "undecided":
            ET.SubElement(case, "skipped", message=_clean(_undecided(gate)))
    return suite


def _undecided(gate: GateValues) -> str:
    return "; ".join(part for part in (f"undecided: {show_need(gate)}".rstrip(": "), gate["text"]) if part)


def _nothing(report: Report) -> ET.Element:
    suite = _suite("verify", report)
    case = ET.SubElement(suite, "testcase", classname="verify", name="an engine is compared")
    ET.SubElement(case, "error", message=_clean(report["verdict"]["text"]), type="nothing verified")
    return suite


def _suite(name: str, report: Report) -> ET.Element:
    suite = ET.Element("testsuite", name=_clean(name), timestamp=report["made"]["at"].removesuffix("Z"))
    ET.SubElement(suite, "properties")
    for key, value in report["environment"].items():
        if isinstance(value, Mapping):
            for library, version in value.items():
                _property(suite, library, version)
        else:
            _property(suite, key, value)
    return suite


def _property(suite: ET.Element, name: str, value: object) -> None:
    ET.SubElement(suite[0], "property", name=_clean(name), value=_clean(str(value)))


def _count(suite: ET.Element) -> None:
    """The attributes that readers of JUnit take for the result; no time is stated, as gates take none."""
    suite.set("tests", str(len(suite.findall("testcase"))))
    for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(key, str(len(suite.findall(f"testcase/{tag}"))))


def _clean(text: str) -> str:
    return _FORBIDDEN.sub(_REPLACEMENT, text)
