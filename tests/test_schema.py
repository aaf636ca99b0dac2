"""The report's schema says what its JSON has, no more and no less; its views and templates read nothing else."""

import copy
import inspect
from pathlib import Path
from typing import NotRequired, TypedDict, get_type_hints, is_typeddict

import pytest
from jinja2 import Environment, nodes
from sample_report import make_sample
from typed_values import find_misfits

import calib.findings_schema
import lfm_deploy.deployment.kernel_table
import lfm_deploy.kernels
import lfm_deploy.report.engine_schema
import lfm_deploy.report.exploration_schema
import lfm_deploy.report.schema
import lfm_deploy.suites.published
import lfm_deploy.verification.envelope_values
from lfm_deploy.report.findings import ChangedPicture, ColumnFigures
from lfm_deploy.report.headline import KeyFigure
from lfm_deploy.report.illustrations import QuantisedPlots
from lfm_deploy.report.schema import Report, ScoreRow
from lfm_deploy.report.thumbnails import Thumbnail

MODULES = (
    calib.findings_schema,
    lfm_deploy.deployment.kernel_table,
    lfm_deploy.kernels,
    lfm_deploy.report.engine_schema,
    lfm_deploy.report.exploration_schema,
    lfm_deploy.report.schema,
    lfm_deploy.suites.published,
    lfm_deploy.verification.envelope_values,
)
TEMPLATES = Path(lfm_deploy.report.schema.__file__).with_name("templates")
# What else has attributes in a template: Python's methods, and Jinja's loop, namespace and macros.
OTHERS = {"items", "append", "get", "format", "partition", "last", "index0", "rows"}


def schema_types():
    found = [value for module in MODULES for value in vars(module).values() if is_typeddict(value)]
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def sample():
    return make_sample(4)


def test_the_invented_report_is_one(sample):
    report, rows = sample
    assert find_misfits(report, Report, "report") == []
    assert [misfit for row in rows for misfit in find_misfits(row, ScoreRow, "row")] == []


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda report: report.pop("advice"), "report lacks 'advice'"),
        (lambda report: report.update(colour="red"), "report has 'colour', which Report does not know"),
        (
            lambda report: report["engines"][1]["suites"][0]["against"].pop("flips"),
            "report['engines'][1]['suites'][0]['against'] lacks 'flips'",
        ),
        (
            lambda report: report["engines"][0]["suites"][0]["sets"][0].update(acc=0.9),
            "report['engines'][0]['suites'][0]['sets'][0]['acc'] is float, not EstimateValues",
        ),
        (lambda report: report.update(threshold=None), "report['threshold'] is NoneType, not float"),
        (lambda report: report.update(threshold=True), "report['threshold'] is bool, not float"),
        (lambda report: report.update(advice=("a",)), "report['advice'] is tuple, not list"),
        (lambda report: report["verdict"].update(passed=0), "report['verdict']['passed'] is int, not bool"),
        (
            lambda report: report["suites"][0].update(size="small"),
            "report['suites'][0]['size'] is str, not int",
        ),
    ],
)
def test_what_is_missing_unknown_or_of_another_type_is_found(sample, spoil, complaint):
    report = copy.deepcopy(sample[0])
    spoil(report)
    assert find_misfits(report, Report, "report") == [complaint]


def test_a_key_that_is_not_required_may_be_missing_and_nothing_else() -> None:
    class Both(TypedDict):
        here: int
        perhaps: NotRequired[int | None]

    assert find_misfits({"here": 1}, Both) == find_misfits({"here": 1, "perhaps": None}, Both) == []
    assert find_misfits({"perhaps": 1}, Both) == ["it lacks 'here'"]


@pytest.mark.parametrize("schema", schema_types(), ids=lambda schema: schema.__name__)
def test_every_field_is_explained(schema):
    if schema.__name__ == "EnvironmentValues":  # a call, which has no docstring
        return
    fields = schema.__annotations__.items()
    bases = [other for other in schema_types() if other.__annotations__.items() <= fields]  # itself among them
    explained = "".join(inspect.getdoc(base) or "" for base in bases)
    assert [name for name in schema.__annotations__ if f"    {name}: " not in explained] == []


@pytest.mark.parametrize("template", sorted(path.name for path in TEMPLATES.iterdir() if path.suffix == ".html"))
def test_a_template_reads_no_key_that_the_schema_lacks(template):
    text = (TEMPLATES / template).read_text()
    known = set(OTHERS)
    for schema in (*schema_types(), ChangedPicture, ColumnFigures, QuantisedPlots, KeyFigure, Thumbnail):
        known |= set(get_type_hints(schema))
    read = {node.attr for node in Environment(autoescape=True).parse(text).find_all(nodes.Getattr)}
    assert read - known == set()
