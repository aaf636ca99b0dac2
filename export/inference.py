"""The inference form of a detector: same logits, raw pixels in, nothing left to get wrong in front of it.

Algebra, with normalised pixel x = (p/255 - mean)/std of a raw pixel p and NPR(x) = x - up2(x[::2, ::2]):

* the mean cancels and the scale is positive, so NPR(x) = NPR(p) / (255 std), channel by channel, with its sign and
  without; this factor, and the 2/3 of signed residuals, move into the first convolution's weights;
* batch norms move into the convolutions in front of them (``export.folding``).

For raw pixels NPR is an integer between -255 and 255, which float16 holds exactly. Input that is normalised already
takes its difference in float32 before anything is rounded.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from export.folding import fold_backbone, make_constant
from lfm_deploy.artifacts import InputForm, Precision
from lfm_deploy.config import IMAGENET_STD, Pooling, Residual
from lfm_deploy.network.model import LFM
from lfm_deploy.network.pooling import TopKPooling
from lfm_deploy.network.residuals import neighbouring_pixel_relationships, pixel_differences

_TORCH_TYPES = {Precision.FP32: torch.float32, Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}
Outputs = Tensor | tuple[Tensor, Tensor, Tensor]
_RESIDUALS = {Residual.ABSOLUTE: neighbouring_pixel_relationships, Residual.SIGNED: pixel_differences}


class InferenceForm(nn.Module):
    """A detector as it is exported.

    Input ``image``: uint8 ``(N, H, W, 3)`` or, for ``InputForm.FLOAT``, normalised float32 ``(N, 3, H, W)``.
    Output ``logit``: float32 ``(N,)``. With ``evidence`` also the pooled values, float32 ``(N, C, k)``, and
    their positions ``row * w + column`` on the feature map, int32 ``(N, C, k)``; this takes Top-K pooling.
    """

    def __init__(self, model: LFM, form: InputForm, precision: Precision, *, evidence: bool) -> None:
        super().__init__()
        dtype = _TORCH_TYPES[precision]
        raw = form is InputForm.UINT8
        gains = torch.full((3,), model.residual.gain, dtype=torch.float64)
        if raw:
            gains /= 255 * torch.tensor(IMAGENET_STD, dtype=torch.float64)
        self.residual = (RawResidual if raw else NormalisedResidual)(model.config.residual, dtype)
        self.backbone = fold_backbone(model.backbone, gains, dtype)
        self.projection = _as_constants(model.projection, dtype)
        self.head: nn.Module
        ranked = model.config.pooling is Pooling.TOPK
        # ONNX selects in float16 and float32 alone; the values are the same.
        self.selected_type = torch.float32 if ranked and precision is Precision.BF16 else dtype
        if evidence:
            self.head = EvidenceHead(model, dtype)
        else:
            self.head = (RankHead if ranked else Head)(model, dtype)

    def forward(self, image: Tensor) -> Outputs:
        """Logits, and the evidence if it was asked for."""
        return cast(Outputs, self.head(self.projection(self.backbone(self.residual(image))).to(self.selected_type)))


class RawResidual(nn.Module):
    """Residual of raw pixels: uint8 ``(N, H, W, 3)`` -> ``(N, 3, H, W)`` of the graph's type, whole grey levels."""

    def __init__(self, residual: Residual, dtype: torch.dtype) -> None:
        super().__init__()
        self.residual, self.dtype = _RESIDUALS[residual], dtype

    def forward(self, image: Tensor) -> Tensor:
        """Residuals."""
        # Cast before the transpose: TensorRT refuses to transpose uint8.
        return self.residual(image.to(self.dtype).permute(0, 3, 1, 2))


class NormalisedResidual(nn.Module):
    """Residual of normalised pixels: float32 ``(N, 3, H, W)`` -> the same shape, in the graph's type."""

    def __init__(self, residual: Residual, dtype: torch.dtype) -> None:
        super().__init__()
        self.residual, self.dtype = _RESIDUALS[residual], dtype

    def forward(self, image: Tensor) -> Tensor:
        """Residuals."""
        return self.residual(image).to(self.dtype)


class Head(nn.Module):
    """Pooling and linear layer: maps ``(N, C, h, w)`` -> logits float32 ``(N,)``."""

    def __init__(self, model: LFM, dtype: torch.dtype) -> None:
        super().__init__()
        self.pool = _as_constants(model.pool, dtype)
        self.weight = make_constant(model.fc.weight, torch.float32)
        self.bias = make_constant(model.fc.bias, torch.float32)

    def forward(self, maps: Tensor) -> Tensor:
        """Logits."""
        return self.decide(self.pool(maps).to(torch.float32))

    def decide(self, features: Tensor) -> Tensor:
        """The linear layer: float32 ``(N, features)`` -> ``(N,)``."""
        # A product and a sum, not a matrix product: tensorrt-rtx has no float32 matrix product for SM75 (T4, RTX 20).
        return (features * self.weight).sum(dim=1) + self.bias


class RankHead(Head):
    """Top-K pooling and linear layer; the values are widened before they are laid out in a row."""

    pool: TopKPooling

    def forward(self, maps: Tensor) -> Tensor:
        """Logits."""
        return self.decide(self.pool.select(maps)[0].to(torch.float32).flatten(1))


class EvidenceHead(Head):
    """Top-K pooling and linear layer, which also give the values and where they stand."""

    pool: TopKPooling

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]  # it gives more
        """Logits, values and positions."""
        values, positions = self.pool.select(maps)
        values = values.to(torch.float32)
        return self.decide(values.flatten(1)), values, positions.to(torch.int32)


def _as_constants(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy in the graph's type, which nothing trains."""
    return copy.deepcopy(module).to(dtype).requires_grad_(False)
