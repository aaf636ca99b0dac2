import dataclasses
import json

import pytest

from calib.calibration import calibration_versions
from calib.ranges import CHOOSE, JUDGE, Ranges, check_ranges, hash_contract, read_ranges
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.contract import Contract
from lfm_deploy.errors import ArtifactError
from lfm_deploy.quantisation import Recipe

METHODS = {"min/max", "99.9 %", "99.99 %", "99.999 %", "MSE", "entropy"}


@pytest.fixture
def ranges(calibrated):
    return read_ranges(calibrated.ranges)


def check(ranges, workdir, versions=None):
    graph = workdir.graph(Precision.FP32)
    check_ranges(ranges, workdir.ranges, graph, read_graph_info(graph), versions or calibration_versions())


def test_a_file_reads_as_it_was_written(calibrated, ranges):
    text = calibrated.ranges.read_text()
    assert ranges.to_json() == text
    assert Ranges.from_json(text, "x") == ranges


def test_every_tensor_has_every_candidate_with_its_effect_on_the_logit(ranges, small_config):
    assert list(ranges.tensors) == [
        "conv1.input",
        "conv2.input",
        "conv3.input",
        "projection.input",
        "projection.output",
    ]
    for name, tensor in ranges.tensors.items():
        recipes = [Recipe.CPU] if name == "projection.output" else list(Recipe)
        assert list(tensor.candidates) == recipes
        for recipe in recipes:
            expected = {"grey levels"} if name == "conv1.input" else METHODS
            assert expected <= set(tensor.candidates[recipe])
            assert set(tensor.errors[recipe]) == set(tensor.candidates[recipe])
            assert tensor.errors[recipe][tensor.choice[recipe]] == min(tensor.errors[recipe].values())
            assert tensor.chosen(recipe) == tensor.candidates[recipe][tensor.choice[recipe]]


def test_the_first_range_is_whole_grey_levels(ranges):
    first = ranges.tensors["conv1.input"]
    assert (first.chosen(Recipe.TENSORRT), first.chosen(Recipe.CPU)) == ((0, 127), (0, 255))


def test_it_says_which_pictures_took_part_and_how(ranges):
    assert ranges.classes == {"real": 48, "fake": 48}
    for label in (0, 1):
        parts = [picture.part for picture in ranges.pictures if picture.label == label]
        assert parts == [CHOOSE, JUDGE] * 24
    assert len({picture.sha256 for picture in ranges.pictures}) == 96


def test_ranges_of_this_model_contract_and_version_are_taken(calibrated, ranges):
    check(ranges, calibrated)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"checkpoint_sha256": "0" * 64}, "measured with another checkpoint"),
        ({"onnx_sha256": "0" * 64}, "lfm.onnx has changed since"),
        ({"contract": Contract(size=256)}, "measured under another contract"),
        ({"contract_sha256": hash_contract(Contract(size=256))}, "measured under another contract"),
        ({"versions": {"lfm-deploy": "0.0.1", "onnxruntime": "1.2.3"}}, r"made with onnxruntime 1\.2\.3, this is"),
        ({"versions": {}}, "made with lfm-deploy None, this is"),
    ],
)
def test_stale_ranges_are_refused_with_the_command_that_renews_them(calibrated, ranges, change, reason):
    with pytest.raises(ArtifactError, match=f"stale: .*{reason}.*; run 'lfm-deploy calibrate .* --count 128 --seed 0'"):
        check(dataclasses.replace(ranges, **change), calibrated)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "",
        lambda _: "[]",
        lambda text: text.replace("ranges 1", "ranges 0"),
        lambda text: json.dumps(json.loads(text) | {"colour": "red"}),
        lambda text: text.replace('"lowest"', '"deepest"'),
        lambda text: text.replace('"tensorrt"', '"abacus"'),
    ],
)
def test_a_damaged_file_says_what_to_run(own_calibrated, edit):
    own_calibrated.ranges.write_text(edit(own_calibrated.ranges.read_text()))
    with pytest.raises(ArtifactError, match=r"cannot be read .*run 'lfm-deploy calibrate IMAGES' again"):
        read_ranges(own_calibrated.ranges)


def test_a_missing_file_says_what_to_run(tmp_path):
    with pytest.raises(ArtifactError, match="run 'lfm-deploy calibrate IMAGES' first"):
        read_ranges(tmp_path / "ranges.json")
