import shutil

import pytest
import torch

from calib.calibration import calibrate_into
from calib.int8_graph import quantise_into
from calib.layer_choice import BudgetError
from export.graph import ExportConfig
from lfm_deploy.deployment.deployment import export_into
from lfm_deploy.errors import ConfigError
from lfm_deploy.network.checkpoint import read_checkpoint, write_checkpoint
from lfm_deploy.quantisation import Budget, Recipe
from lfm_deploy.workdir import Workdir

LAYERS = ("conv1", "conv2", "conv3", "projection")


def plant(source, target, layer):
    """A copy of a checkpoint in which one layer cannot be INT8: an input that is always 0 has weights of 1000.

    In floating point they meet nothing but zeros. In INT8 they set the scale, and all others round to 0.
    """
    model = read_checkpoint(source).build_model()
    number = int(layer[-1])
    before, after = getattr(model.snet, f"layer{number - 1}"), getattr(model.snet, f"layer{number}")
    with torch.no_grad():
        before[1].weight[0], before[1].bias[0] = 0, -1  # below ReLU's threshold, whatever comes in
        after[0].weight[:, 0] = 1000
    write_checkpoint(target, model.eval())


@pytest.fixture(scope="module", params=["conv2", "conv3"])
def fragile(request, small_checkpoint, calibration_folder, tmp_path_factory):
    """A calibrated workdir with one planted fragile layer, and its name."""
    folder = tmp_path_factory.mktemp("fragile")
    plant(small_checkpoint, folder / "fragile.pth", request.param)
    workdir = Workdir(folder / "deploy")
    export_into(workdir, folder / "fragile.pth", ExportConfig(size=64), lambda _: None)
    calibrate_into(workdir, calibration_folder)
    return workdir, request.param


@pytest.mark.parametrize("recipe", list(Recipe))
def test_exactly_the_planted_layer_is_left_out(fragile, recipe):
    workdir, planted = fragile
    # TensorRT's int8 ends at 127 grey levels, which costs the small network 3 % of its decisions in the first layer.
    findings = quantise_into(workdir, recipe, Budget(acc=9, ap=9, flips=9)).findings
    in_float = [name for name, layer in findings["layers"].items() if layer["precision"] != "int8"]
    assert in_float == [planted]
    layer = findings["layers"][planted]
    assert layer["precision"] == recipe.base
    assert layer["why"].startswith("with it: flips ")
    # Sensitivity tells it from the others, both ways.
    alone = {name: layer["only"]["flips"] for name, layer in findings["layers"].items()}
    without = {name: layer["without"]["flips"] for name, layer in findings["layers"].items()}
    assert max(alone, key=alone.get) == planted
    assert min(without, key=without.get) == planted
    assert alone[planted] > 10 * max(value for name, value in alone.items() if name != planted)


def test_a_budget_that_nothing_can_meet_gives_the_table_and_no_file(own_calibrated):
    for path in (*own_calibrated.graphs()[1:], own_calibrated.precisions):
        path.unlink()
    for recipe in Recipe:
        with pytest.raises(BudgetError) as caught:
            quantise_into(own_calibrated, recipe, Budget(acc=0, ap=0, flips=0))
        result = caught.value.result
        assert not result.within_budget
        assert result.layers == ()
        assert set(result.as_dict()["layers"]) == set(LAYERS)
        if recipe is Recipe.CPU:  # float32 itself is exact, so every choice was tried: 15 of 4 layers
            assert len(result.trials) == 15
            assert "no choice of INT8 layers holds the budget" in str(caught.value)
        else:  # float16 is not
            assert result.trials == ()
            assert "even the fp16 graph breaks the budget" in str(caught.value)
    assert [path.name for path in own_calibrated.graphs()] == ["lfm.onnx"]
    assert not own_calibrated.precisions.exists()


def test_most_work_comes_first_and_the_first_that_holds_is_taken(fragile):
    workdir, planted = fragile
    shutil.rmtree(workdir.path / "none", ignore_errors=True)
    result = quantise_into(workdir, Recipe.CPU, Budget(acc=4, ap=4, flips=4)).findings
    shares = [trial["int8_share"] for trial in result["trials"]]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1
    assert all(trial["broken"] for trial in result["trials"][:-1])
    assert not result["trials"][-1]["broken"]
    counts = {name: layer["multiply_adds"] for name, layer in result["layers"].items()}
    assert result["int8_share"] == pytest.approx(1 - counts[planted] / sum(counts.values()))


def test_all_takes_every_layer_and_marks_what_breaks(fragile, wide_budget):
    workdir, _ = fragile
    made = quantise_into(workdir, Recipe.CPU, wide_budget, layers_asked="all")
    assert {layer["precision"] for layer in made.findings["layers"].values()} == {"int8"}
    assert not made.findings["within_budget"]


def test_layers_that_are_asked_for_are_taken_if_they_hold(fragile, wide_budget):
    workdir, planted = fragile
    sound = next(name for name in LAYERS if name != planted)
    made = quantise_into(workdir, Recipe.CPU, wide_budget, layers_asked=sound)
    assert [name for name, layer in made.findings["layers"].items() if layer["precision"] == "int8"] == [sound]
    assert made.findings["layers"][planted]["why"] == f"--layers {sound}"
    with pytest.raises(BudgetError, match=f"INT8 in {planted} never holds the budget"):
        quantise_into(workdir, Recipe.CPU, wide_budget, layers_asked=planted)
    with pytest.raises(ConfigError, match="no layer 'conv9'; there are conv1, conv2, conv3, projection"):
        quantise_into(workdir, Recipe.CPU, wide_budget, layers_asked="conv1,conv9")
