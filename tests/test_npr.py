"""The baseline NPR, exported by PyTorch and described by a TOML file: the logits of its authors' own code."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from foreign_answers import score
from PIL import Image

from engines.cpu_settings import default_settings
from lfm_deploy.detectors.foreign import open_detectors

CONTRACT = """
name = "NPR"
onnx = "npr.onnx"
source = "Tan et al., CVPR 2024; GitHub chuangchuangtan/NPR-DeepfakeDetection"

[input]
layout = "NCHW"
dtype = "float32"
colour = "RGB"
fit = "square"
resize = 256
filter = "bilinear"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]

[output]
meaning = "logit"
"""


class Npr(torch.nn.Module):
    """NPR's published layout, from its state dict: residuals of 2x2 blocks, then the first half of a ResNet-50."""

    def __init__(self, state):
        super().__init__()
        self.state = state

    def norm(self, values, name):
        mean, variance, weight, bias = (
            self.state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(values, mean, variance, weight, bias)

    def bottleneck(self, values, name, stride):
        state = self.state
        inner = self.norm(F.conv2d(values, state[f"{name}.conv1.weight"]), f"{name}.bn1").relu()
        inner = F.conv2d(inner, state[f"{name}.conv2.weight"], stride=stride, padding=1)
        inner = self.norm(inner, f"{name}.bn2").relu()
        inner = self.norm(F.conv2d(inner, state[f"{name}.conv3.weight"]), f"{name}.bn3")
        if f"{name}.downsample.0.weight" in state:
            shortcut = F.conv2d(values, state[f"{name}.downsample.0.weight"], stride=stride)
            values = self.norm(shortcut, f"{name}.downsample.1")
        return (inner + values).relu()

    def forward(self, images):
        residual = images - F.interpolate(images[..., ::2, ::2], scale_factor=2.0, mode="nearest")
        values = F.conv2d(residual * (2.0 / 3.0), self.state["conv1.weight"], stride=2, padding=1)
        values = F.max_pool2d(self.norm(values, "bn1").relu(), 3, stride=2, padding=1)
        for layer, blocks in ((1, 3), (2, 4)):
            for block in range(blocks):
                values = self.bottleneck(values, f"layer{layer}.{block}", 2 if (layer, block) == (2, 0) else 1)
        return F.linear(values.mean((2, 3)), self.state["fc1.weight"], self.state["fc1.bias"])


@pytest.fixture
def npr(shared, tmp_path):
    """The TOML file beside an exported network."""
    state = torch.load(shared / "official" / "npr_random.pth", weights_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter is deprecated; for this network it is much faster
        torch.onnx.export(
            Npr(state).eval(), (torch.zeros(1, 3, 256, 256),), str(tmp_path / "npr.onnx"), dynamo=False,
            input_names=["image"], output_names=["logit"], dynamic_axes={"image": {0: "n"}, "logit": {0: "n"}},
        )  # fmt: skip
    (tmp_path / "npr.toml").write_text(CONTRACT)
    return tmp_path / "npr.toml"


def test_npr_gives_its_authors_logits_on_files(npr, shared, golden, tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(len(golden["images"]))]
    for path, pixels in zip(paths, golden["images"], strict=True):
        Image.fromarray(pixels).save(path)
    (detector,) = open_detectors([npr], settings=default_settings(threads=2), spin=False)
    found, reasons = score(detector, paths)
    assert reasons == {}
    expected = np.load(shared / "official" / "npr_random_logits.npy")
    # Random weights give logits of a few hundredths; float32 through 23 layers keeps some five digits of the features.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.ptp(expected) > 0.05
