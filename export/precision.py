"""INT8 graphs: chosen convolutions of a typed graph read integers, by a recipe, and nothing else changes.

A tensor x becomes q = clamp(round(x / s) + z) and is read back as s (q - z); a recipe says which tensors and which
integers, see ``Recipe``. The first scale is exactly 1 grey level, because |NPR| of raw pixels is an integer: up to 127
(int8) or 255 (uint8) nothing is rounded there. Both recipes are written by onnxruntime.quantization as explicit
QuantizeLinear and DequantizeLinear; ranges, gains and rounded weights are decided before it.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.equalisation import apply_gains
from export.levelling import level_channels
from export.names import LAST_OUTPUT, find_convolutions, input_name
from export.optimisers import keep_in_float, split_biases
from export.rounding import choose_scales, refine_scales, round_weights
from export.splitting import place_parts, split_channels, split_weights
from export.typed import check_types
from lfm_deploy.artifacts import Precision
from lfm_deploy.errors import BuildError
from lfm_deploy.quantisation import Recipe

_FOLLOWERS = ("Relu", "MaxPool")


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Config:
    """How the convolutions of a graph are quantised, whichever of them are.

    Attributes:
        recipe: kind of machine that the graph is for: ``tensorrt`` or ``cpu``.
        ranges: lowest and highest value that each quantised tensor keeps; what lies outside is clipped.
        gains: factor of each channel of an inner tensor before it is quantised ``(C,)``, by tensor; see
            ``export.equalisation``.
        parts: number of parts in which each channel of a tensor is written ``(C,)``, by tensor; see
            ``export.splitting``.
        channel_ranges: lowest and highest value that each channel of the projection's output keeps ``(C, 2)``; see
            ``export.levelling``. None for one range for all, which ``ranges`` has.
        moments: mean of x x^T over each layer's input patches ``(K, K)``; where given, weights are rounded by them
            instead of each to the nearest. Of a tensor in parts, x are its parts, equalised.
    """

    recipe: Recipe
    ranges: dict[str, tuple[float, float]]
    gains: dict[str, NDArray[np.floating]] = field(default_factory=dict)
    parts: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    channel_ranges: NDArray[np.floating] | None = None
    moments: dict[str, NDArray[np.floating]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedGraph:
    """A typed graph, equalised, with the integers that each layer's weights would become.

    Attributes:
        model: graph that computes what the graph computed that it was made from.
        config: settings that the graph was prepared with.
        codes: int8 weights of the layers that have moments; those that read parts have a channel for each.
        scales: scales of those codes, one for each output channel.
    """

    model: onnx.ModelProto
    config: Int8Config
    codes: dict[str, NDArray[np.int8]]
    scales: dict[str, NDArray[np.floating]]


def prepare_int8(base: onnx.ModelProto, config: Int8Config) -> PreparedGraph:
    """Equalise a graph and round the weights of every layer, once for all choices of INT8 layers.

    Args:
        base: a float16 graph for the TensorRT recipe, a float32 graph for the CPU recipe; it is left as it is.
        config: settings of the quantisation.
    """
    model = onnx.shape_inference.infer_shapes(base)
    gains = _equalise(model, config)
    if config.channel_ranges is not None:
        level_channels(model, config.channel_ranges, config.recipe.levels)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    codes: dict[str, NDArray[np.int8]] = {}
    scales: dict[str, NDArray[np.floating]] = {}
    for convolution in find_convolutions(model):
        layer = convolution.name
        if layer not in config.moments:
            continue
        weight = numpy_helper.to_array(tensors[convolution.input[1]])
        if convolution.input[0] in config.parts:
            weight = split_weights(weight, config.parts[convolution.input[0]])
            lifts = np.ones(weight.shape[1])
        else:
            lifts = gains.get(layer, np.ones(weight.shape[1]))
        lift = np.repeat(lifts, weight.shape[2] * weight.shape[3])
        moments = config.moments[layer] * np.outer(lift, lift)
        # The scale is rounded to the graph's type first, so that codes are chosen for the scale they will meet.
        scales[layer] = refine_scales(weight, choose_scales(weight), moments).astype(weight.dtype)
        codes[layer] = round_weights(weight, scales[layer], moments)
    return PreparedGraph(model=model, config=config, codes=codes, scales=scales)


def make_int8_graph(prepared: PreparedGraph, layers: Sequence[str]) -> onnx.ModelProto:
    """Quantise chosen convolutions of a typed graph with explicit Q/DQ.

    Args:
        prepared: graph from ``prepare_int8``.
        layers: names of the convolutions that become INT8.

    Raises:
        BuildError: the graph that came out is not what the recipe says.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import TensorData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    model = onnx.ModelProto()
    model.CopyFrom(prepared.model)
    recipe = prepared.config.recipe
    for_tensorrt = recipe is Recipe.TENSORRT
    nodes, scales = _quantised_parts(model, prepared.config, layers)
    split = _split(model, prepared.config, scales)
    overrides = {name: [scale] for name, scale in scales.items()} | _set_weights(model, prepared, layers, split)
    if not for_tensorrt:
        keep_in_float(model, layers)
    # The quantiser asks for a range beside each scale, and uses the scale.
    dtype = np.float16 if for_tensorrt else np.float32
    unit = TensorData(lowest=np.array(0, dtype), highest=np.array(1, dtype))
    quantiser = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8 if for_tensorrt else QuantType.QUInt8,
        tensors_range=dict.fromkeys(scales, unit),
        nodes_to_quantize=nodes,
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv"] if for_tensorrt else ["Conv", *_FOLLOWERS],
        extra_options={
            "ActivationSymmetric": for_tensorrt,
            "WeightSymmetric": True,
            "QuantizeBias": not for_tensorrt,
            "TensorQuantOverrides": overrides,
            "OpTypesToExcludeOutputQuantization": ["Conv"] if for_tensorrt else [],
        },
    )
    quantiser.quantize_model()
    quantiser.model.topological_sort()  # it appends its nodes at the end
    quantised: onnx.ModelProto = quantiser.model.model
    quantised.producer_name, quantised.producer_version = prepared.model.producer_name, prepared.model.producer_version
    if for_tensorrt:
        split_biases(quantised, layers)
    _check_int8(quantised, recipe, layers)
    return quantised


def _split(
    model: onnx.ModelProto, config: Int8Config, scales: dict[str, dict[str, NDArray[np.generic]]]
) -> dict[str, NDArray[np.int64]]:
    """Write quantised tensors in parts, in place; the parts of what a layer gives, by the layer's name."""
    split = {}
    for before, after in itertools.pairwise(find_convolutions(model)):
        tensor = after.input[0]
        if tensor in config.parts and tensor in scales:
            high = float(scales[tensor]["scale"]) * config.recipe.levels
            split_channels(model, after.name, config.parts[tensor], high)
            split[before.name] = config.parts[tensor]
    return split


def _equalise(model: onnx.ModelProto, config: Int8Config) -> dict[str, NDArray[np.float64]]:
    """Equalise the inner tensors whose channels are known, in place; the gains of each layer's input channels."""
    gains: dict[str, NDArray[np.float64]] = {}
    for convolution in find_convolutions(model)[1:]:
        tensor = convolution.input[0]
        if tensor in config.gains:
            gains[convolution.name] = config.gains[tensor].astype(np.float64)
            apply_gains(model, convolution.name, gains[convolution.name])
    return gains


def _set_weights(
    model: onnx.ModelProto, prepared: PreparedGraph, layers: Sequence[str], split: dict[str, NDArray[np.int64]]
) -> dict[str, list[dict[str, Any]]]:
    """Put rounded weights in place; scale and zero point of each output channel, for the quantiser."""
    overrides = {}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for convolution in find_convolutions(model):
        layer = convolution.name
        if layer not in layers or layer not in prepared.codes:
            continue
        tensor, codes, scales = tensors[convolution.input[1]], prepared.codes[layer], prepared.scales[layer]
        if layer in split:
            sources, widths, _ = place_parts(split[layer])
            codes, scales = codes[sources], scales[sources] / widths.astype(scales.dtype)  # powers of two
        values = codes * scales.astype(np.float64).reshape(-1, 1, 1, 1)
        # Rounding to float16 moves a value by a sixteenth of a step at most, so the quantiser finds the same codes.
        tensor.CopyFrom(numpy_helper.from_array(values.astype(scales.dtype), tensor.name))
        zero = np.array(0, np.int8)
        overrides[tensor.name] = [{"axis": 0, "scale": np.array(scale), "zero_point": zero} for scale in scales]
    return overrides


def _quantised_parts(
    model: onnx.ModelProto, config: Int8Config, layers: Sequence[str]
) -> tuple[list[str], dict[str, dict[str, NDArray[np.generic]]]]:
    """Names of the nodes to quantise, and scale and zero point of each of their activations."""
    readers = {name: node for node in model.graph.node for name in node.input}
    nodes: list[str] = []
    scales: dict[str, dict[str, NDArray[np.generic]]] = {}
    for convolution in find_convolutions(model):
        if convolution.name not in layers:
            continue
        nodes.append(convolution.name)
        scales[convolution.input[0]] = choose_scale(convolution.input[0], config)
        if config.recipe is Recipe.TENSORRT:
            continue
        chain = [convolution.output[0]]
        while (reader := readers[chain[-1]]).op_type in _FOLLOWERS:
            nodes.append(reader.name)
            chain.append(reader.output[0])
        # ReLU and pooling keep the scale, so that the integer convolution writes what the next one reads.
        scales |= dict.fromkeys(chain, choose_scale(chain[-1], config))
    return nodes, scales


def choose_scale(tensor: str, config: Int8Config) -> dict[str, NDArray[np.generic]]:
    """Scale and zero point of one tensor, in the types of the recipe's graph."""
    low, high = config.ranges[tensor]
    low, high = min(low, 0.0), max(high, 0.0)
    if tensor == input_name("conv1") or (tensor == LAST_OUTPUT and config.channel_ranges is not None):
        low, high = 0.0, float(config.recipe.levels)
    if config.recipe is Recipe.TENSORRT:
        scale = np.float16(max(-low, high) / config.recipe.levels)
        return {"scale": np.array(scale), "zero_point": np.array(0, np.int8)}
    width = np.float32((high - low) / config.recipe.levels)
    return {"scale": np.array(width), "zero_point": np.array(round(-low / float(width)), np.uint8)}


def _check_int8(model: onnx.ModelProto, recipe: Recipe, layers: Sequence[str]) -> None:
    """Check that exactly the asked layers are quantised, and as the recipe says."""
    producers = {name: node for node in model.graph.node for name in node.output}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    problems = []
    found = []
    for convolution in find_convolutions(model):
        sources = [producers.get(name) for name in convolution.input]
        quantised = [source is not None and source.op_type == "DequantizeLinear" for source in sources]
        if not quantised[1]:
            continue  # its input may still be integers: the layer in front writes them
        found.append(convolution.name)
        # A bias is quantised together with its layer for the CPU, and never for TensorRT.
        if not all(quantised) or (recipe is Recipe.TENSORRT and len(convolution.input) > 2):
            problems.append(f"{convolution.name} is quantised in part")
    first = tensors.get(f"{input_name('conv1')}_scale")
    if first is not None and float(numpy_helper.to_array(first)) != 1:
        problems.append("the first scale is not 1 grey level")
    if sorted(found) != sorted(layers):
        problems.append(f"INT8 layers are {found}, asked for {list(layers)}")
    if recipe is Recipe.CPU and ("projection" in found) != (producers[_last(model)].op_type != "Conv"):
        problems.append("the projection's output has the wrong type")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        problems.append(f"not valid ONNX: {error}")
    if problems:
        raise BuildError(f"the INT8 graph ({recipe}) is wrong: {'; '.join(problems)}")
    check_types(model, Precision(recipe.base))


def _last(model: onnx.ModelProto) -> str:
    """What the reshape in front of Top-K pooling reads."""
    producers = {name: node for node in model.graph.node for name in node.output}
    (top,) = [node for node in model.graph.node if node.op_type == "TopK"]
    return str(producers[top.input[0]].input[0])
