"""Reading a typed BF16 graph, or an INT8 graph for the CPU, for the kernels: its weights, as they stand there."""

import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.amx.chain import check_chain
from engines.amx.constants import Constants
from engines.amx.layers import Layer, Layers, explain_misfit
from export.blocks import VALUES, make_differences, spread_windows
from export.unfolding import BLOCK_ORDER
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.config import ModelConfig, ValueOrder
from lfm_deploy.errors import ArtifactError, UnavailableError

_COLOURS = 3


def read_layers(path: Path) -> Layers:
    """Read a typed BF16 graph, or an INT8 graph for the CPU.

    Args:
        path: path of the graph, an ONNX file.

    Raises:
        ArtifactError: the file is damaged, not ours, holds NaN or Inf, or is not the graph that its metadata says.
        UnavailableError: the kernels do not know a graph of this kind.
    """
    import onnx
    from google.protobuf.message import DecodeError

    info = read_graph_info(path)
    if reason := explain_misfit(info):
        raise UnavailableError(f"{path}: not run by the kernels for AMX: {reason}; run it in ONNX Runtime or OpenVINO")
    try:
        constants = Constants(path, onnx.load(path).graph)
    except DecodeError as error:
        raise ArtifactError(f"{path}: damaged ({error}); make it again with 'lfm-deploy build'") from None
    check_chain(constants, info)
    config = info.config
    linear = constants.take("head.weight", (1, config.features)).reshape(config.channels, config.k).T
    if config.order is ValueOrder.ASCENDING:
        linear = linear[::-1]
    linear, bias = linear.astype(np.float64), float(constants.take("head.bias", (1,))[0])
    if info.precision is Precision.INT8:
        *convolutions, projection = _read_int8(constants, config)
        step, low = _read_last_scale(constants, config)
        linear, bias = linear * step, bias + float((linear * low).sum())
    else:
        *convolutions, projection = _read_bf16(constants, config)
    return Layers(info, tuple(convolutions), projection, np.ascontiguousarray(linear, np.float32), np.float32(bias))


def _read_bf16(constants: Constants, config: ModelConfig) -> list[Layer]:
    constants.expect("blocks.differences", make_differences())
    first = config.widths[0]
    sets = [constants.take(f"conv1.window{index}.weight", (first, VALUES, 1, 1)) for index in range(4)]
    weights = [np.stack(sets)[:, :, :, 0, 0]]
    for number, (inputs, outputs) in enumerate(itertools.pairwise(config.widths), start=2):
        weights.append(constants.take(f"conv{number}.weight", (outputs, inputs, 2, 2)))
    biases = [constants.take(f"conv{number}.bias", (width,)) for number, width in enumerate(config.widths, start=1)]
    weights.append(constants.take("projection.weight", (config.channels, config.maps, 1, 1))[:, :, 0, 0])
    biases.append(np.zeros(config.channels, np.float32))
    for name in constants.convolutions:
        if name != "blocks.subtract":
            constants.expect_type(f"{name}.weight", "bfloat16")
    return [
        Layer(_to_bits(weight.astype(np.float32)), bias.astype(np.float32), np.zeros(len(bias), np.float32))
        for weight, bias in zip(weights, biases, strict=True)
    ]


def _to_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of values that bfloat16 holds exactly."""
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def _read_int8(constants: Constants, config: ModelConfig) -> list[Layer]:
    names = [*(f"conv{number}" for number in range(1, config.depth + 1)), "projection"]
    if list(constants.convolutions) != names:
        constants.refuse(f"its convolutions are {', '.join(constants.convolutions)}")
    read = [_find_scale(constants, name) for name in names]
    constants.expect(f"{read[0]}_scale", 1.0)
    layers: list[Layer] = []
    for name, before, after in zip(names, read, [*read[1:], "projection.output"], strict=True):
        constants.expect(f"{before}_zero_point", 0)
        rows = next(iter(constants.shape(f"{name}.weight_quantized")), 0)
        weight = _read_integers(constants, name, rows, len(layers[-1].bias) if layers else 0)
        outputs = weight.shape[0] if layers else weight.shape[1]
        scale = constants.take(f"{name}.weight_scale", (rows,))[:outputs]
        _check_quantisation(constants, name, before, rows)
        bias = np.zeros(outputs, np.int32)
        if constants.shape(f"{name}.bias_quantized"):
            bias = constants.take(f"{name}.bias_quantized", (rows,))[:outputs]
        # In the order of ONNX Runtime, whose rounding this is.
        multiplier = constants.take(f"{before}_scale", ()) * scale / constants.take(f"{after}_scale", ())
        zero = int(constants.take(f"{after}_zero_point", ()))
        layers.append(Layer(weight, bias, multiplier.astype(np.float32), zero))
    return layers


def _check_quantisation(constants: Constants, name: str, before: str, rows: int) -> None:
    """Refuse weights, or maps, that are not the integers that the tiles multiply."""
    constants.expect_type(f"{before}_zero_point", "uint8")
    constants.expect_type(f"{name}.weight_quantized", "int8")
    constants.expect(f"{name}.weight_zero_point", np.zeros(rows))
    if (constants.take(f"{name}.weight_scale", (rows,)) <= 0).any():
        constants.refuse(f"{name}.weight_scale is not above 0")


def _find_scale(constants: Constants, name: str) -> str:
    """Name of the scale of what a convolution reads, without its ending; others in front of it must have the same."""
    node = constants.makers.get(constants.convolutions[name].input[0])
    if node is None or node.op_type != "DequantizeLinear":
        constants.refuse(f"{name} does not read integers")
    scale = str(node.input[1])
    found: set[str] = set()
    while node is not None and node.op_type not in ("Conv", "Abs"):
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            found.add(str(node.input[1]))
        node = constants.makers.get(node.input[0])
    if found != {scale} or not scale.endswith("_scale"):
        constants.refuse(f"in front of {name} stand scales {', '.join(sorted(found))}")
    return scale.removesuffix("_scale")


def _read_integers(constants: Constants, name: str, rows: int, inputs: int) -> NDArray[np.int8]:
    """Weights of a convolution, as ``Layer`` has them; the first one's are those of four windows, or of one."""
    quantised = f"{name}.weight_quantized"
    if name == "projection":
        return constants.take(quantised, (rows, inputs, 1, 1))[:, :, 0, 0]
    if name != "conv1":
        return constants.take(quantised, (rows, inputs, 2, 2))
    if constants.shape(quantised) == (rows, VALUES, 1, 1):
        return constants.take(quantised, (rows, VALUES, 1, 1)).reshape(4, rows // 4, VALUES)[:, :, list(BLOCK_ORDER)]
    sets = spread_windows(constants.take(quantised, (rows, _COLOURS, 2, 2)))
    return np.stack(sets)[:, :, :, 0, 0].astype(np.int8)


def _read_last_scale(constants: Constants, config: ModelConfig) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What an integer of each channel of the projection stands for, as a step and a value of 0."""
    scale = float(constants.take("projection.output_scale", ()))
    zero = float(constants.take("projection.output_zero_point", ()))
    step, low = np.ones(config.channels), np.zeros(config.channels)
    if constants.shape("selected.step"):
        step = constants.take("selected.step", (config.channels, 1))[:, 0].astype(np.float64)
        low = constants.take("selected.low", (config.channels, 1))[:, 0].astype(np.float64)
    return scale * step, low - zero * scale * step
