import json
from dataclasses import replace

import pytest

from lfm_deploy.cli import run
from lfm_deploy.config import LFM, NPR, ModelConfig, Pooling
from lfm_deploy.deployment.profiling import compare_with_paper, profile_artifact, profile_config
from lfm_deploy.errors import ConfigError, InputError, ShapeError
from lfm_deploy.network import model
from lfm_deploy.network.checkpoint import write_checkpoint


@pytest.mark.parametrize("config", [LFM, NPR, replace(NPR, pooling=Pooling.ATTENTION, projection=64)], ids=str)
@pytest.mark.parametrize("side", [256, 90])
def test_counting_while_it_runs_is_what_the_config_says(config, side):
    profile = profile_config(config, side, "x")
    assert {layer.name: layer.multiply_adds for layer in profile.layers[:-1]} == config.multiply_adds(side, side)
    assert profile.parameters == sum(parameter.numel() for parameter in model.LFM(config).parameters())
    assert profile.layers[-1].name == "fc"


@pytest.mark.parametrize(
    ("config", "multiply_adds", "operations"),
    # What fvcore 0.1.5 counts of the same networks in training mode, less its count for the up-sampling of NPR.
    [(LFM, 1_575_356_160, 1_613_549_120), (NPR, 2_242_904_576, 2_297_299_456)],
)
def test_the_figures_of_the_paper_come_out_by_a_stated_way_of_counting(config, multiply_adds, operations):
    rows = {row.what: row for row in compare_with_paper(profile_config(config, 256, "x"))}
    assert rows["multiply-adds"].counted == multiply_adds
    assert not rows["multiply-adds"].agrees
    assert rows["operations"].counted == operations
    assert rows["operations"].agrees


def test_parameters_beside_the_paper():
    lfm, npr = (compare_with_paper(profile_config(config, 256, "x"))[0] for config in (LFM, NPR))
    assert (lfm.counted, lfm.agrees) == (725_569, False)
    assert "cut, not rounded" in lfm.why
    assert lfm.difference == pytest.approx(725_569 / 720_000 - 1)
    assert npr.agrees


def test_the_paper_speaks_of_two_networks_at_one_size():
    assert compare_with_paper(profile_config(LFM, 224, "x")) == []
    assert compare_with_paper(profile_config(ModelConfig(k=4), 256, "x")) == []


def test_a_graph_is_counted_as_it_is(small_graph, small_checkpoint, small_config):
    graph, network = profile_artifact(small_graph, 256), profile_artifact(small_checkpoint, 256)
    assert [(one.name, one.output, one.multiply_adds) for one in graph.layers] == [
        (one.name, one.output, one.multiply_adds) for one in network.layers
    ]
    # Of each batch norm's scale and shift nothing is left.
    assert network.parameters - graph.parameters == 2 * sum(small_config.widths)
    assert (graph.normalised, network.normalised > 0) == (0, True)


def test_sizes_and_files_that_do_not_fit(small_graph, tmp_path):
    with pytest.raises(ConfigError, match="use --size 256"):
        profile_artifact(small_graph, 64)
    with pytest.raises(ShapeError, match="use 48x48"):
        profile_config(LFM, 32, "x")
    with pytest.raises(InputError, match="that can be profiled"):
        profile_artifact(tmp_path / "x.engine", 256)


def test_the_command(small_workdir, tmp_path, capfd):
    assert run(["profile", "--workdir", str(small_workdir.path)]) == 0
    assert "SNet of depth 3 with Top-K pooling" in capfd.readouterr().out
    write_checkpoint(tmp_path / "lfm.pth", model.LFM())
    assert run(["profile", str(tmp_path / "lfm.pth"), "--json"]) == 0
    values = json.loads(capfd.readouterr().out)
    assert (values["parameters"], values["side"], values["layers"][0]["output"]) == (725_569, 256, [64, 255, 255])
    assert [row["agrees"] for row in values["paper"]] == [False, False, True]
    assert run(["profile", "--config", "npr"]) == 0
    shown = capfd.readouterr().out
    assert "layer2.0.downsample" in shown
    assert "2,242,904,576" in shown
    assert run(["profile", str(tmp_path / "lfm.pth"), "--config", "lfm"]) == 2
