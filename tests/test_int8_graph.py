import json
import shutil
from dataclasses import replace

import onnx
import pytest

import calib.int8_graph
import calib.layer_scoring
from calib.calibration import calibrate_into
from calib.int8_graph import check_kernels, quantise_into
from calib.ranges import read_ranges
from calib.scoring import score_graph
from calib.search_findings import read_findings
from engines.loading import load_engine
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.deployment.deployment import export_into, make_typed_graph
from lfm_deploy.errors import ArtifactError, GateError
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.quantisation import Budget, Recipe
from lfm_deploy.storage.atomic import sha256_of_file


@pytest.mark.parametrize("recipe", list(Recipe))
def test_a_graph_says_how_it_was_quantised(calibrated, wide_budget, recipe):
    info = read_graph_info(calibrated.graph(Precision.INT8, recipe))
    made = info.quantisation
    assert (info.precision, made.recipe, made.budget, made.layers_asked) == (
        Precision.INT8,
        recipe,
        wide_budget,
        "search",
    )
    assert made.within_budget
    assert made.ranges_sha256 == sha256_of_file(calibrated.ranges)
    assert made.layers == {
        name: layer["precision"] for name, layer in read_findings(calibrated)[recipe]["layers"].items()
    }
    assert made.int8_share >= 0.5
    assert info.checkpoint_sha256 == sha256_of_file(calibrated.checkpoint)


def test_the_reference_graph_stays_as_it_is(calibrated, small_checkpoint):
    info = read_graph_info(calibrated.graph(Precision.FP32))
    assert (info.precision, info.quantisation) == (Precision.FP32, None)


@pytest.mark.parametrize("recipe", list(Recipe))
def test_the_graph_runs_like_any_other(calibrated, recipe):
    tiles = sample_tiles(64, 64, 48)
    expected = load_engine(calibrated.graph(Precision.FP32)).logits(tiles)
    found = load_engine(calibrated.graph(Precision.INT8, recipe)).logits(tiles)
    assert abs(found - expected).max() < 0.5 * expected.std()


def test_a_graph_made_from_the_same_inputs_is_kept_and_another_budget_makes_another(own_calibrated, wide_budget):
    path = own_calibrated.graph(Precision.INT8, Recipe.CPU)
    before = path.read_bytes()
    assert quantise_into(own_calibrated, Recipe.CPU, wide_budget).reused
    made = quantise_into(own_calibrated, Recipe.CPU, Budget(acc=6.5, ap=6.5, flips=6.5))
    assert not made.reused
    assert path.read_bytes() != before
    again = quantise_into(own_calibrated, Recipe.CPU, wide_budget)
    assert not again.reused
    assert path.read_bytes() == before  # the same inputs give the same file


def test_a_half_precision_graph_of_the_workdir_is_quantised_unless_it_is_another(
    own_calibrated, other_checkpoint, wide_budget, monkeypatch
):
    from export.exporter import export_onnx
    from export.graph import ExportConfig

    half = own_calibrated.graph(Precision.FP16)
    made = own_calibrated.graph(Precision.INT8, Recipe.TENSORRT)
    before = made.read_bytes(), read_findings(own_calibrated)  # made where there was no such graph

    def make_again():
        made.unlink()
        assert not quantise_into(own_calibrated, Recipe.TENSORRT, wide_budget).reused
        return made.read_bytes(), read_findings(own_calibrated)

    export_onnx(other_checkpoint, half, ExportConfig(size=64, precision=Precision.FP16))
    assert make_again() == before
    make_typed_graph(own_calibrated, Precision.FP16, lambda _: None)
    monkeypatch.setattr(calib.int8_graph, "make_graph", pytest.fail)
    assert make_again() == before


def test_recipes_stand_side_by_side_in_precision_json(own_calibrated, wide_budget):
    kept = read_findings(own_calibrated)[Recipe.TENSORRT]
    quantise_into(own_calibrated, Recipe.CPU, Budget(acc=7, ap=7, flips=7))
    found = read_findings(own_calibrated)
    assert found[Recipe.TENSORRT] == kept
    assert found[Recipe.CPU]["budget"] == {"acc": 7, "ap": 7, "flips": 7}


def test_damaged_findings_are_made_anew(own_calibrated, wide_budget):
    own_calibrated.precisions.write_text("{")
    assert read_findings(own_calibrated) == {}
    assert not quantise_into(own_calibrated, Recipe.CPU, wide_budget).reused
    assert set(read_findings(own_calibrated)) == {Recipe.CPU}
    json.loads(own_calibrated.precisions.read_text(), parse_constant=pytest.fail)


def test_stale_ranges_are_refused_with_the_command(own_calibrated, other_checkpoint, wide_budget):
    from export.graph import ExportConfig

    export_into(own_calibrated, other_checkpoint, ExportConfig(size=64), lambda _: None)
    with pytest.raises(
        ArtifactError, match=r"ranges.json: stale: they were measured with another checkpoint; run 'lfm"
    ):
        quantise_into(own_calibrated, Recipe.CPU, wide_budget)


def test_another_contract_makes_ranges_stale(own_calibrated, small_checkpoint, wide_budget):
    from export.graph import ExportConfig

    export_into(own_calibrated, small_checkpoint, ExportConfig(size=96), lambda _: None)
    with pytest.raises(ArtifactError, match=r"stale: lfm.onnx has changed since; they were measured under another"):
        quantise_into(own_calibrated, Recipe.CPU, wide_budget)


def test_pictures_may_have_moved(own_calibrated, calibration_folder, tmp_path):
    moved = replace(read_ranges(own_calibrated.ranges), images=str(tmp_path / "gone"))
    own_calibrated.ranges.write_text(moved.to_json())
    budget = Budget(acc=8, ap=8, flips=8)
    with pytest.raises(ArtifactError, match="Say where the pictures are with --images"):
        quantise_into(own_calibrated, Recipe.CPU, budget)
    shutil.copytree(calibration_folder, tmp_path / "here")
    assert not quantise_into(own_calibrated, Recipe.CPU, budget, images=tmp_path / "here").reused


def test_a_graph_with_slow_kernels_is_refused(calibrated, monkeypatch):
    class Result:
        multiply_adds = dict.fromkeys(("conv1", "conv2", "conv3", "projection"), 1)
        layers = ("conv1", "conv2", "conv3", "projection")

    check_kernels(onnx.load(calibrated.graph(Precision.INT8, Recipe.CPU)), Result)
    with pytest.raises(GateError, match="runs 0 convolutions in integers, expected 4"):
        check_kernels(onnx.load(calibrated.graph(Precision.FP32)), Result)


def test_nothing_appears_if_the_last_check_fails(own_calibrated, wide_budget, monkeypatch):
    for path in (*own_calibrated.graphs()[1:], own_calibrated.precisions):
        path.unlink()

    def refuse(*_):
        raise GateError("slow")

    monkeypatch.setattr(calib.int8_graph, "check_kernels", refuse)
    with pytest.raises(GateError, match="slow"):
        quantise_into(own_calibrated, Recipe.CPU, wide_budget)
    assert [path.name for path in own_calibrated.graphs()] == ["lfm.onnx"]
    assert not own_calibrated.precisions.exists()


@pytest.mark.parametrize("recipe", list(Recipe))
def test_another_budget_takes_over_what_was_measured_and_comes_to_the_same(own_calibrated, recipe, monkeypatch):
    scored = []

    def score(model, pictures, indices, **options):
        scored.append(len(indices))
        return score_graph(model, pictures, indices, **options)

    monkeypatch.setattr(calib.layer_scoring, "score_graph", score)
    budget = Budget(acc=8, ap=8, flips=8)
    taken = quantise_into(own_calibrated, recipe, budget)
    content, few = taken.path.read_bytes(), len(scored)
    own_calibrated.precisions.unlink()
    taken.path.unlink()
    measured = quantise_into(own_calibrated, recipe, budget)
    assert (taken.reused, measured.reused) == (False, False)
    assert (taken.findings, content) == (measured.findings, measured.path.read_bytes())
    # The graph without INT8, each of four layers alone and left out, and the first look at what was taken in the end.
    assert len(scored) - few == few + 1 + 8 + 1


def test_what_was_measured_with_other_ranges_is_not_taken_over(own_calibrated, calibration_folder, wide_budget):
    old = read_findings(own_calibrated)[Recipe.CPU]
    calibrate_into(own_calibrated, calibration_folder, count=40)
    new = quantise_into(own_calibrated, Recipe.CPU, wide_budget).findings
    assert (old["base"]["pictures"], new["base"]["pictures"]) == (96, 40)
    assert all(layer["only"] != old["layers"][name]["only"] for name, layer in new["layers"].items())
