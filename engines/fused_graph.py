"""Reading what the fused kernels need out of a typed FP16 graph, which was proved: its weights, as they stand there."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.artifacts import GraphInfo, InputForm, Precision, read_graph_info
from lfm_deploy.config import Backbone, ModelConfig, Pooling, Residual, ValueOrder
from lfm_deploy.errors import ArtifactError, UnavailableError

_WIDTH_STEP = 16
_LARGEST_K = 64
# Beside the convolutions and what follows them: what every graph of SNet with Top-K pooling has, and what such graphs
# reckon sizes with.
_FRAME = {"Sub": 1, "Abs": 1, "Resize": 1, "TopK": 1, "ReduceSum": 1}
_SHAPES = frozenset(
    {
        *("Add", "Cast", "Concat", "Constant", "Div", "Gather", "Mul"),
        *("Reshape", "Shape", "Slice", "Squeeze", "Transpose", "Unsqueeze"),
    }
)


@dataclass(frozen=True, slots=True)
class FusedWeights:
    """Weights of SNet with Top-K pooling, batch norms folded in.

    Attributes:
        info: contract, architecture and origin of the graph.
        convolutions: weight ``(C_out, C_in, 2, 2)`` and bias ``(C_out,)`` of each stage, float16; the first one's
            takes residuals in grey levels.
        projection: weights of the 1x1 convolution before the pooling, float16 ``(channels, maps)``; None where there
            is none.
        linear: weights of the linear layer, float32 ``(k, channels)``; those of the largest values come first.
        bias: bias of the linear layer, float32.
    """

    info: GraphInfo
    convolutions: tuple[tuple[NDArray[np.float16], NDArray[np.float16]], ...]
    projection: NDArray[np.float16] | None
    linear: NDArray[np.float32]
    bias: np.float32


def explain_misfit(info: GraphInfo) -> str | None:
    """Why the fused kernels cannot run a graph; None where they can."""
    config = info.config
    if config.backbone is not Backbone.SNET or config.pooling is not Pooling.TOPK:
        return f"it is {config.title}, and they know SNet with Top-K pooling"
    if config.residual is not Residual.ABSOLUTE:
        return f"it takes {config.residual} residuals, and they know absolute ones"
    if info.precision is not Precision.FP16:
        return f"it is {info.precision}, and they run fp16 ('lfm-deploy build --fp16')"
    if info.input is not InputForm.UINT8 or info.evidence:
        return "it has normalised pixels or evidence, and they take raw pixels and give logits"
    if any(width % _WIDTH_STEP for width in (*config.widths, config.projection)):
        return f"its widths are {(*config.widths, config.projection)}, and they take multiples of {_WIDTH_STEP}"
    if config.k > _LARGEST_K or config.k & (config.k - 1):
        return f"it keeps {config.k} values of a channel, and they keep a power of two up to {_LARGEST_K}"
    return None


def read_weights(path: Path) -> FusedWeights:
    """Read a typed FP16 graph.

    Args:
        path: path of the graph, an ONNX file.

    Raises:
        ArtifactError: the file is damaged, not ours, holds NaN or Inf, or is not the graph that its metadata says.
        UnavailableError: the fused kernels do not know a graph of this kind.
    """
    import onnx
    from google.protobuf.message import DecodeError

    info = read_graph_info(path)
    if reason := explain_misfit(info):
        raise UnavailableError(f"{path}: not run by the fused kernels: {reason}; run it in ONNX Runtime")
    try:
        graph = onnx.load(path).graph
    except DecodeError as error:
        raise ArtifactError(f"{path}: damaged ({error}); make it again with 'lfm-deploy build --fp16'") from None
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    _check_operators(path, Counter(node.op_type for node in graph.node), info.config)
    convolutions = []
    inputs = 3
    for number, width in enumerate(info.config.widths, start=1):
        weight = _take(path, tensors, f"conv{number}.weight", (width, inputs, 2, 2), np.float16)
        convolutions.append((weight, _take(path, tensors, f"conv{number}.bias", (width,), np.float16)))
        inputs = width
    projection = None
    if info.config.projection:
        shape = (info.config.projection, inputs, 1, 1)
        projection = _take(path, tensors, "projection.weight", shape, np.float16)[:, :, 0, 0]
    channels, k = info.config.channels, info.config.k
    linear = _take(path, tensors, "head.weight", (1, channels * k), np.float32).reshape(channels, k).T
    if info.config.order is ValueOrder.ASCENDING:
        linear = linear[::-1]
    bias = _take(path, tensors, "head.bias", (1,), np.float32)[0]
    return FusedWeights(info, tuple(convolutions), projection, np.ascontiguousarray(linear), bias)


def _check_operators(path: Path, found: Counter[str], config: ModelConfig) -> None:
    """Refuse a graph that does more, or less, than its metadata says."""
    pools = sum(window.outputs == 0 for window in config.windows)
    expected = _FRAME | {"Conv": len(config.layers), "Relu": config.depth, "MaxPool": pools}
    wrong = [f"{found[name]} {name} instead of {count}" for name, count in expected.items() if found[name] != count]
    wrong += [f"{count} {name}" for name, count in found.items() if name not in expected and name not in _SHAPES]
    if wrong:
        raise ArtifactError(
            f"{path}: not the graph that its metadata says ({', '.join(wrong)}); make it again with 'lfm-deploy build'"
        )


def _take(path: Path, tensors: dict[str, NDArray[Any]], name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """A weight of the graph, finite and of the shape that the architecture gives it."""
    tensor = tensors.get(name)
    if tensor is None or tensor.shape != shape or tensor.dtype != dtype:
        found = "is missing" if tensor is None else f"is {tensor.dtype} {tensor.shape}"
        raise ArtifactError(
            f"{path}: {name} {found}, expected {np.dtype(dtype)} {shape}; make it again with 'lfm-deploy build --fp16'"
        )
    if not np.isfinite(tensor).all():
        raise ArtifactError(f"{path}: {name} holds NaN or Inf; export it again from a sound checkpoint")
    return tensor
