"""Backbones without batch norms, in the types of a graph, and with the scale of raw pixels in their weights.

Algebra: batch normalisation in evaluation, y -> (y - m) g/sqrt(v + eps) + b, is an affine map of each output channel
and moves into the weights and bias of the convolution in front of it. Factors of the input channels move into the
weights of the first convolution, also where it pads: what it pads with is a residual of 0, which no factor changes.
Folds are computed in float64 and rounded once.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from lfm_deploy.network.model import SNet
from lfm_deploy.network.resnet import TruncatedResNet50


def fold_backbone(backbone: nn.Module, gains: Tensor, dtype: torch.dtype) -> nn.Module:
    """A backbone that does in evaluation what another one does to ``gains`` times its input.

    Args:
        backbone: backbone in evaluation mode; it stays as it is.
        gains: float64 ``(3,)``, a factor for each input channel.
        dtype: dtype of all folded weights.
    """
    if isinstance(backbone, SNet):
        return _fold_snet(backbone, gains, dtype)
    return _fold_resnet(cast(TruncatedResNet50, backbone), gains, dtype)


def make_constant(values: Tensor, dtype: torch.dtype) -> nn.Parameter:
    """Values of a graph: a parameter that nothing trains."""
    return nn.Parameter(values.detach().to(dtype), requires_grad=False)


def _fold_snet(snet: SNet, gains: Tensor, dtype: torch.dtype) -> nn.Module:
    """Stages of convolution, ReLU and pooling: in this order runtimes make one kernel of the first two."""
    stages = []
    for stage in snet:
        convolution, norm, *rest = cast(nn.Sequential, stage)
        folded = _fold(cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, norm), gains, dtype)
        gains = torch.ones((), dtype=torch.float64)
        pools = [module for module in rest if isinstance(module, nn.MaxPool2d)]
        stages.append(nn.Sequential(folded, nn.ReLU(), *pools))
    return nn.Sequential(*stages)


def _fold_resnet(resnet: TruncatedResNet50, gains: Tensor, dtype: torch.dtype) -> nn.Module:
    """The same modules with convolutions that have a bias, and without norms."""
    folded = copy.deepcopy(resnet)
    norms = {name: norm for name, norm in resnet.named_modules() if isinstance(norm, nn.BatchNorm2d)}
    for name, norm in norms.items():
        convolution = name.replace("bn", "conv") if "bn" in name else name.replace("downsample.1", "downsample.0")
        own = gains if convolution == "conv1" else torch.ones((), dtype=torch.float64)
        replacement = _fold(cast(nn.Conv2d, resnet.get_submodule(convolution)), norm, own, dtype)
        folded.set_submodule(convolution, replacement)
        folded.set_submodule(name, nn.Identity())
    return folded


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d, gains: Tensor, dtype: torch.dtype) -> nn.Conv2d:
    """One convolution that does what convolution and norm did to ``gains`` times their input."""
    # Norms of these backbones always track running statistics.
    mean, variance = cast(Tensor, norm.running_mean).double(), cast(Tensor, norm.running_var).double()
    scale = norm.weight.double() / torch.sqrt(variance + norm.eps)
    bias = torch.zeros_like(mean) if convolution.bias is None else convolution.bias.double()
    folded = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        kernel_size=convolution.kernel_size[0],
        stride=convolution.stride[0],
        padding=cast(tuple[int, int], convolution.padding)[0],
    )
    weight = convolution.weight.double() * scale.view(-1, 1, 1, 1) * gains.view(1, -1, 1, 1)
    folded.weight = make_constant(weight, dtype)
    folded.bias = make_constant((bias - mean) * scale + norm.bias.double(), dtype)
    return folded
