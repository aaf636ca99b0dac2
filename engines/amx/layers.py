"""What the kernels need out of a graph, and which graphs they know."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.artifacts import GraphInfo, InputForm, Precision
from lfm_deploy.config import Backbone, Pooling, Residual
from lfm_deploy.quantisation import Recipe


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution.

    Attributes:
        weight: uint16, the bits of bfloat16, or int8; ``(C_out, C_in, 2, 2)``, ``(C_out, C_in)`` for the projection,
            and for the first stage ``(4, C_out, 16)``, a set for each window of a block (``export.blocks``).
        bias: float32, or int32 in units of input scale times weight scale, ``(C_out,)``.
        multiplier: input scale times weight scale by output scale, float32 ``(C_out,)``; 0 for bfloat16.
        zero: zero point of what it gives; 0 but for the projection.
    """

    weight: NDArray[Any]
    bias: NDArray[Any]
    multiplier: NDArray[np.float32]
    zero: int = 0


@dataclass(frozen=True, slots=True)
class Layers:
    """SNet with Top-K pooling, batch norms folded in, as a typed graph has it.

    Attributes:
        info: contract, architecture and origin of the graph.
        convolutions: convolutions of all stages, in their order.
        projection: the 1x1 convolution before the pooling.
        linear: weights of the linear layer, float32 ``(k, channels)``; those of the largest values come first. Of INT8
            they take the integers that the projection gives.
        bias: bias of the linear layer.
    """

    info: GraphInfo
    convolutions: tuple[Layer, ...]
    projection: Layer
    linear: NDArray[np.float32]
    bias: np.float32


def explain_misfit(info: GraphInfo) -> str | None:
    """Why the kernels cannot run a graph; None where they can.

    Args:
        info: contract, architecture and precision that the graph states.
    """
    config = info.config
    if config.backbone is not Backbone.SNET or config.pooling is not Pooling.TOPK or not config.projection:
        return f"it is {config.title}, and they know SNet with Top-K pooling behind a projection"
    if config.residual is not Residual.ABSOLUTE:
        return f"it takes {config.residual} residuals, and they know absolute ones"
    if config.depth == 1 or config.pools == 0:
        return "its first convolution is not pooled, and they pool it"
    if info.input is not InputForm.UINT8 or info.evidence:
        return "it has normalised pixels or evidence, and they take raw pixels and give logits"
    if info.precision is Precision.INT8:
        quantisation = info.quantisation
        if quantisation is None or quantisation.recipe is not Recipe.CPU:
            return "it is INT8 for TensorRT, and they run INT8 for a CPU ('lfm-deploy build --int8 --target cpu')"
        floats = [name for name, kind in quantisation.layers.items() if kind != "int8"]
        return f"its layers {', '.join(floats)} are in floating point, and they run INT8 alone" if floats else None
    if info.precision is not Precision.BF16:
        return f"it is {info.precision}, and they run bf16 and int8"
    return None
