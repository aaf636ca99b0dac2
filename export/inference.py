"""The inference form of LFM: same logits, raw pixels in, nothing left to get wrong in front of it.

Algebra, with normalised pixel x = (p/255 - mean)/std of a raw pixel p and NPR(x) = x - up2(x[::2, ::2]):

* the mean cancels and the scale is positive, so |NPR(x)| = |NPR(p)| / (255 std), channel by channel; the
  factor moves into the first convolution's weights;
* batch normalisation in evaluation, y -> (y - m) g/sqrt(v + eps) + b, is an affine map of each output channel
  and moves into the weights and bias of the convolution in front of it.

Both folds are computed in float64 and rounded once. For raw pixels NPR is an integer below 256, which float16
holds exactly. Input that is normalised already takes its difference in float32 before anything is rounded.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.typed import TORCH_TYPES
from lfm_deploy.artifacts import InputForm, Precision
from lfm_deploy.config import IMAGENET_STD
from lfm_deploy.model import LFM, TopKPooling, neighbouring_pixel_relationships


class InferenceForm(nn.Module):
    """LFM as it is exported.

    Input ``image``: uint8 ``(N, H, W, 3)`` or, for ``InputForm.FLOAT``, normalised float32 ``(N, 3, H, W)``.
    Output ``logit``: float32 ``(N,)``. With ``evidence`` also the pooled values, float32 ``(N, C, k)``, and
    their positions ``row * w + column`` on the feature map, int32 ``(N, C, k)``.
    """

    def __init__(self, model: LFM, form: InputForm, precision: Precision, *, evidence: bool) -> None:
        super().__init__()
        self.form = form
        self.evidence = evidence
        self.dtype = TORCH_TYPES[precision]
        self.convolutions = nn.ModuleList(_folded_convolutions(model, form, self.dtype))
        self.projection = nn.Conv2d(
            model.projection.in_channels, model.projection.out_channels, kernel_size=1, bias=False
        )
        self.projection.weight = _constant(model.projection.weight, self.dtype)
        self.pool = TopKPooling(model.config.k, model.config.order)
        self.fc = nn.Linear(model.fc.in_features, 1)
        self.fc.weight = _constant(model.fc.weight, torch.float32)
        self.fc.bias = _constant(model.fc.bias, torch.float32)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Logits, and the evidence if it was asked for."""
        if self.form is InputForm.UINT8:
            # Cast before the transpose: TensorRT refuses to transpose uint8.
            maps = neighbouring_pixel_relationships(image.to(self.dtype).permute(0, 3, 1, 2))
        else:
            maps = neighbouring_pixel_relationships(image).to(self.dtype)
        for stage, convolution in enumerate(self.convolutions, start=1):
            maps = F.relu(convolution(maps))
            if stage < len(self.convolutions):
                maps = F.max_pool2d(maps, 2)
        values, positions = self.pool.select(self.projection(maps))
        values = values.to(torch.float32)
        # A product and a sum, not a matrix product: tensorrt-rtx has no float32 matrix product for SM75 (T4, RTX 20).
        logit = (values.flatten(1) * self.fc.weight).sum(dim=1) + self.fc.bias
        return (logit, values, positions.to(torch.int32)) if self.evidence else logit


def _folded_convolutions(model: LFM, form: InputForm, dtype: torch.dtype) -> list[nn.Conv2d]:
    folded = []
    for index, stage in enumerate(model.snet):
        convolution, norm = cast(nn.Sequential, stage)[0], cast(nn.Sequential, stage)[1]
        weight, bias = _fold_norm(cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, norm))
        if index == 0 and form is InputForm.UINT8:
            weight = weight / (255 * torch.tensor(IMAGENET_STD, dtype=torch.float64).view(1, 3, 1, 1))
        new = nn.Conv2d(weight.shape[1], weight.shape[0], kernel_size=2)
        new.weight, new.bias = _constant(weight, dtype), _constant(bias, dtype)
        folded.append(new)
    return folded


def _fold_norm(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of one convolution that does what convolution and norm did."""
    # Both always exist: SNet's convolutions have a bias and its norms track running statistics.
    mean, variance = cast(Tensor, norm.running_mean).double(), cast(Tensor, norm.running_var).double()
    bias = cast(Tensor, convolution.bias).double()
    scale = norm.weight.double() / torch.sqrt(variance + norm.eps)
    weight = convolution.weight.double() * scale.view(-1, 1, 1, 1)
    return weight, (bias - mean) * scale + norm.bias.double()


def _constant(values: Tensor, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(values.detach().to(dtype), requires_grad=False)
