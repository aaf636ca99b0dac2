import json

import pytest
from typed_values import find_misfits

from calib.findings_schema import DescribedFindings
from calib.search_findings import describe_quantisation, read_findings
from lfm_deploy.artifacts import Precision
from lfm_deploy.quantisation import Recipe
from lfm_deploy.storage.sealed_values import seal_values
from lfm_deploy.workdir import Workdir


def test_the_description_has_what_plots_need(own_calibrated):
    described = describe_quantisation(own_calibrated)
    assert set(described) == {"tensorrt", "cpu"}
    assert find_misfits(described, dict[str, DescribedFindings]) == []
    for recipe, findings in described.items():
        for name, tensor in findings["tensors"].items():
            layer = name.partition(".")[0]
            quantised = findings["layers"][layer]["precision"] == "int8" and (
                name != "projection.output" or recipe == "cpu"
            )
            assert (tensor["kept"] is not None) is quantised
            assert sum(tensor["histogram"]) > 0


def test_histograms_of_other_ranges_are_not_shown(own_calibrated):
    own_calibrated.ranges.write_text(own_calibrated.ranges.read_text().replace('"seed": 0', '"seed": 1'))
    assert all(findings["tensors"] == {} for findings in describe_quantisation(own_calibrated).values())
    own_calibrated.graph(Precision.INT8, Recipe.CPU).unlink()
    assert set(describe_quantisation(own_calibrated)) == {"tensorrt"}
    assert describe_quantisation(Workdir(own_calibrated.path / "none")) == {}


def resealed(values):
    return seal_values({key: value for key, value in values.items() if key != "content_sha256"})


@pytest.mark.parametrize(
    "change",
    [
        "f.pop('layers')",
        "f.update(int8_share=None)",
        "f.update(int8_share=1.5)",
        "f.update(budget=5)",
        "f.update(recipe='abacus')",
        "f.update(surprise=1)",
        "f['logits']['labels'].pop()",
        "f['base'].update(sources=0)",
        "f['trials'][0].update(layers='conv1')",
        "f['layers']['conv2'].update(precision='fp8')",
    ],
)
def test_damaged_findings_are_left_out_with_a_word(own_calibrated, change):
    path = own_calibrated.precisions
    values = json.loads(path.read_text())
    before = path.read_text()
    exec(change, {"f": values["recipes"]["cpu"]})  # noqa: S102
    warnings = []
    for text in (json.dumps(values), json.dumps(resealed(values))):  # with its old digest, and with one that fits
        assert text != before
        path.write_text(text)
        assert describe_quantisation(own_calibrated, warnings.append) == {}
        assert "precision.json: " in warnings[-1]
        assert warnings.pop().endswith("it is left out; 'lfm-deploy build --int8' makes it again")


def test_findings_of_an_older_version_are_left_out_with_a_word(own_calibrated):
    values = json.loads(own_calibrated.precisions.read_text()) | {"format": "lfm-deploy precision 3"}
    own_calibrated.precisions.write_text(json.dumps(values))
    warnings = []
    assert read_findings(own_calibrated, warnings.append) == {}
    assert "of format 'lfm-deploy precision 3', this version of lfm-deploy reads" in warnings[0]


@pytest.mark.parametrize("text", ["", "[]", "null", "[" * 100_000, "{"], ids=range(5))
def test_texts_that_are_no_findings(own_calibrated, text):
    own_calibrated.precisions.write_text(text)
    warnings = []
    assert read_findings(own_calibrated, warnings.append) == {}
    assert len(warnings) == 1


def test_findings_of_another_graph_are_left_out(own_calibrated):
    values = json.loads(own_calibrated.precisions.read_text())
    layer = values["recipes"]["cpu"]["layers"]["conv2"]
    layer["precision"] = "fp32" if layer["precision"] == "int8" else "int8"
    own_calibrated.precisions.write_text(json.dumps(resealed(values)))
    warnings = []
    assert set(describe_quantisation(own_calibrated, warnings.append)) == {"tensorrt"}
    assert warnings == [f"{own_calibrated.precisions}: not of this cpu graph; it is left out"]
