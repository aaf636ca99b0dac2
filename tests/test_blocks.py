from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from conftest import write_random_checkpoint

import export.blocks as blocks
from engines.ort import open_session
from export.blocks import can_reform, make_differences, reform_first_stage, spread_windows
from export.graph import ExportConfig, make_graph
from lfm_deploy.artifacts import InputForm, Precision
from lfm_deploy.config import NPR, ModelConfig, Residual
from lfm_deploy.errors import BuildError
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.network.model import normalise
from lfm_deploy.network.residuals import pixel_differences
from lfm_deploy.pictures.photographs import sample_tiles

SIDE = 64


def reformed(model):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    reform_first_stage(copy)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def logits(model, images):
    return open_session(model.SerializeToString(), "a graph").run(["logit"], {"image": images})[0]


def test_fifteen_differences_are_the_residuals_that_a_block_sees():
    pixels = torch.randint(0, 256, (2, 3, 12, 16)).float()
    found = torch.nn.functional.conv2d(pixels, torch.from_numpy(make_differences()), stride=2)
    residuals = pixel_differences(pixels)
    places = [(0, 1), (1, 0), (1, 1), (1, 2), (2, 1)]  # as the drawing in the file has them
    expected = [residuals[:, :, row : row + 9 : 2, column : column + 13 : 2] for row, column in places]
    assert torch.equal(found[:, :15], torch.cat(expected, dim=1))
    assert not found[:, 15:].any()
    others = [(0, 0), (0, 2), (2, 0), (2, 2)]
    assert all(not residuals[:, :, row::2, column::2].any() for row, column in others)


def test_four_windows_sum_what_the_convolution_sums():
    weight = np.random.default_rng(0).normal(size=(5, 3, 2, 2)).astype(np.float32)
    pixels = torch.randint(0, 256, (1, 3, 12, 12)).float()
    values = torch.nn.functional.conv2d(pixels, torch.from_numpy(make_differences()), stride=2).abs()
    residuals = pixel_differences(pixels).abs()
    whole = torch.nn.functional.conv2d(residuals, torch.from_numpy(weight))
    for (down, right), spread in zip(np.ndindex(2, 2), spread_windows(weight), strict=True):
        window = torch.nn.functional.conv2d(values, torch.from_numpy(spread))
        torch.testing.assert_close(window, whole[:, :, down:10:2, right:10:2], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    "config",
    [
        ExportConfig(size=SIDE),
        ExportConfig(size="native"),
        ExportConfig(size=SIDE, input=InputForm.FLOAT),
        ExportConfig(size=SIDE, evidence=True),
    ],
    ids=lambda config: f"{config.size}-{config.input}-{config.evidence}",
)
def test_logits_stay(small_checkpoint, config):
    model = make_graph(read_checkpoint(small_checkpoint), config)
    images = sample_tiles(SIDE, SIDE, 8)
    if config.input is InputForm.FLOAT:
        images = normalise(torch.from_numpy(images)).numpy()
    changed = reformed(model)
    assert [node.op_type for node in changed.graph.node].count("Conv") == 3 + 5
    assert not {"Sub", "Resize"} & {node.op_type for node in changed.graph.node}
    # Sums of 15 float32 values instead of 12, in another order; logits here are some tens.
    np.testing.assert_allclose(logits(changed, images), logits(model, images), rtol=0, atol=2e-4)


def test_signed_residuals_too(tmp_path):
    config = ModelConfig(widths=(8, 8), projection=4, k=4, residual=Residual.SIGNED)
    source = read_checkpoint(write_random_checkpoint(config, tmp_path / "signed.pth", SIDE))
    model = make_graph(source, ExportConfig(size=SIDE))
    images = sample_tiles(SIDE, SIDE, 8)
    np.testing.assert_allclose(logits(reformed(model), images), logits(model, images), rtol=0, atol=2e-4)


def test_golden_logits_of_the_published_checkpoint(official_checkpoint, golden):
    model = reformed(make_graph(read_checkpoint(official_checkpoint), ExportConfig()))
    # Seen 5.3e-5; the export's proof allows 1e-3.
    np.testing.assert_allclose(logits(model, golden["images"]), golden["logits"], rtol=0, atol=2e-4)


def test_a_forgotten_neighbour_is_seen(small_checkpoint, monkeypatch):
    model = make_graph(read_checkpoint(small_checkpoint), ExportConfig(size=SIDE))
    images = sample_tiles(SIDE, SIDE, 8)
    monkeypatch.setattr(blocks, "PLACES", (*blocks.PLACES[:4], ((2, 1), (2, 1))))
    assert np.abs(logits(reformed(model), images) - logits(model, images)).max() > 1e-2


def test_networks_that_start_otherwise_are_left_alone(small_config, tmp_path):
    for name, config in (("npr", NPR), ("unpooled", replace(small_config, widths=(8,), pools=0))):
        source = read_checkpoint(write_random_checkpoint(config, tmp_path / f"{name}.pth", SIDE))
        model = make_graph(source, ExportConfig(size=SIDE))
        before = model.SerializeToString()
        assert not can_reform(model)
        with pytest.raises(BuildError, match="does not start with NPR"):
            reform_first_stage(model)
        assert model.SerializeToString() == before


def test_bf16_graphs_are_written_so_and_others_are_not(small_checkpoint):
    source = read_checkpoint(small_checkpoint)
    for precision in (Precision.FP32, Precision.FP16, Precision.BF16):
        names = [node.name for node in make_graph(source, ExportConfig(size=SIDE, precision=precision)).graph.node]
        assert ("blocks.subtract" in names) == (precision is Precision.BF16)
