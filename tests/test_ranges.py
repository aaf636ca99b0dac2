import dataclasses
import hashlib
import json

import pytest

from calib.calibration import calibration_versions
from calib.ranges import Ranges, check_ranges, hash_contract, read_ranges
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.contract import Contract
from lfm_deploy.errors import ArtifactError
from lfm_deploy.quantisation import Recipe
from lfm_deploy.storage.sealed_values import seal_values

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


def test_contracts_that_do_not_name_their_decoder_are_valid(calibrated, ranges):
    values = json.loads(ranges.to_json())
    del values["content_sha256"], values["contract"]["decoder"]
    text = json.dumps(values["contract"], sort_keys=True)
    assert values["contract_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    sealed = json.dumps(seal_values(values))
    assert Ranges.from_json(sealed, "x") == ranges
    check(Ranges.from_json(sealed, "x"), calibrated)


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
    assert ranges.sources == {"cats/0_real": 24, "cats/1_fake": 24, "dogs/0_real": 24, "dogs/1_fake": 24}
    folds = {picture.source: picture.fold for picture in ranges.pictures}
    assert sorted(folds.values()) == [0, 1, 2, 3]
    assert all(folds[picture.source] == picture.fold for picture in ranges.pictures)
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
        lambda text: text.replace("ranges 3", "ranges 0"),
        lambda text: text.replace("ranges 3", "ranges 2"),
        lambda text: text.replace('"histogram_high": 2', '"histogram_high": 3', 1),
        lambda _: "[" * 100_000,
        lambda text: json.dumps(json.loads(text) | {"colour": "red"}),
        lambda text: text.replace('"lowest"', '"deepest"'),
        lambda text: text.replace('"tensorrt"', '"abacus"'),
    ],
)
def test_a_damaged_file_says_what_to_run(own_calibrated, edit):
    before = own_calibrated.ranges.read_text()
    own_calibrated.ranges.write_text(edit(before))
    assert own_calibrated.ranges.read_text() != before
    with pytest.raises(ArtifactError, match=r"ranges\.json: .*run 'lfm-deploy calibrate IMAGES' again"):
        read_ranges(own_calibrated.ranges)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("t['choice'].update(cpu='none')", "choice or errors of cpu are none of its candidates"),
        ("t['errors'].pop('cpu')", "of different recipes"),
        ("t['candidates']['cpu'].update({'min/max': [2, 1]})", "a range ends below its beginning"),
        ("t['candidates']['cpu'].update({'min/max': [2]})", "expected a list of length 2"),
        ("t['channel_highest'].append('x')", "expected a number"),
        ("t['channel_highest'].append(1)", "keeps another number of channels than 9"),
        ("t['kept']['cpu'].update(high=7)", "what cpu keeps is not what was chosen"),
        ("t['kept']['cpu']['gains'][0] = 0", "expected a number > 0"),
        ("v['folds'].pop()", "folds are not those of its pictures"),
        ("v['folds'][1].pop('conv2.input')", r"folds\[1\] is of other tensors"),
        ("v['folds'][1]['conv2.input']['cpu']['gains'].pop()", r"folds\[1\].conv2.input: "),
        ("v['folds'][1]['conv2.input']['cpu'].update(low=1, high=0)", "a range ends below its beginning"),
        ("t['kept']['cpu'].update(parts=[1])", "parts or channel_ranges of another number"),
        ("t.update(histogram=[-1])", "expected a whole number >= 0"),
        ("v['pictures'][0].update(label=2)", r"pictures\[0\].label is 2"),
        ("v['pictures'][0].update(fold=-1)", r"pictures\[0\].fold is -1"),
        ("v['pictures'].pop()", "classes are not those of its pictures"),
        ("v['contract'].update(threshold=10**6)", "contract.threshold is 1000000"),
        ("v.update(count=-5)", "count is -5"),
    ],
)
def test_values_that_cannot_be_are_found_though_the_check_sum_holds(calibrated, change, complaint):
    values = json.loads(calibrated.ranges.read_text())
    del values["content_sha256"]
    exec(change, {"v": values, "t": values["tensors"]["conv2.input"]})  # noqa: S102
    with pytest.raises(ArtifactError, match=complaint):
        Ranges.from_json(json.dumps(seal_values(values)), "x")


@pytest.mark.parametrize(
    "change", ["t.pop('conv2.input')", "t.update(x=t['conv2.input'])", "t.update({'conv2.input': t['conv1.input']})"]
)
def test_tensors_of_another_network_are_stale(calibrated, ranges, change):
    tensors = dict(ranges.tensors)
    exec(change, {"t": tensors})  # noqa: S102
    with pytest.raises(ArtifactError, match=r"their tensors are not those of lfm\.onnx"):
        check(dataclasses.replace(ranges, tensors=tensors), calibrated)


def test_a_missing_file_says_what_to_run(tmp_path):
    with pytest.raises(ArtifactError, match="run 'lfm-deploy calibrate IMAGES' first"):
        read_ranges(tmp_path / "ranges.json")
