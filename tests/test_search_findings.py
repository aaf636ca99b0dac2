from typed_values import find_misfits

from calib.findings_schema import DescribedFindings
from calib.search_findings import describe_quantisation
from lfm_deploy.artifacts import Precision
from lfm_deploy.quantisation import Recipe
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
