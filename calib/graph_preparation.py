"""From a graph and a calibration to INT8 graphs: prepared once, made for any choice of layers."""

from collections.abc import Sequence

import numpy as np
import onnx

from calib.activations import ActivationReader, collect_moments
from calib.pictures import PictureStore
from calib.ranges import Ranges
from export.names import LAST_OUTPUT, find_convolutions, input_name
from export.precision import Int8Config, PreparedGraph, make_int8_graph, prepare_int8
from export.unfolding import can_unfold, unfold_first_layer
from lfm_deploy.quantisation import Recipe


def prepare_graph(
    reference: onnx.ModelProto,
    base: onnx.ModelProto,
    ranges: Ranges,
    store: PictureStore,
    chooses: Sequence[int],
    recipe: Recipe,
) -> PreparedGraph:
    """The base graph with ranges, gains and rounded weights of a calibration, for any choice of layers.

    Args:
        reference: float32 graph, whose activations decide how weights are rounded.
        base: graph to quantise, typed as the recipe wants it.
        ranges: calibration, from ``calibrate``.
        store: pictures of the ranges, in their order.
        chooses: indices of the pictures to look at.
        recipe: machine that the graph is for.
    """
    limits = {name: tensor.chosen(recipe) for name, tensor in ranges.tensors.items() if recipe in tensor.choice}
    convolutions = find_convolutions(reference)
    weights = {tensor.name: tensor.dims for tensor in reference.graph.initializer}
    taps = {node.input[0]: weights[node.input[1]][2] for node in convolutions}
    reader = ActivationReader(reference, list(taps))
    parts = {name: np.array(tensor.parts[recipe]) for name, tensor in ranges.tensors.items() if recipe in tensor.parts}
    by_channel = ranges.tensors[LAST_OUTPUT].channel_ranges.get(recipe)
    kept = {name: (low, high * parts.get(name, np.ones(1)).reshape(-1, 1, 1)) for name, (low, high) in limits.items()}
    moments = collect_moments(reader, store.batches(chooses), taps, kept, ranges.seed)
    return prepare_int8(
        base,
        Int8Config(
            recipe=recipe,
            ranges=limits,
            channel_highest={
                name: np.array(tensor.channel_highest)
                for name, tensor in ranges.tensors.items()
                if name not in (input_name("conv1"), LAST_OUTPUT)
            },
            parts=parts,
            channel_ranges=None if by_channel is None else np.array(by_channel),
            moments={node.name: moments[node.input[0]] for node in convolutions},
        ),
    )


def make_final_graph(prepared: PreparedGraph, layers: Sequence[str]) -> onnx.ModelProto:
    """The INT8 graph as it is handed over: for the CPU with its first layer unfolded.

    Args:
        prepared: graph from ``prepare_graph``.
        layers: names of the layers in INT8.
    """
    model = make_int8_graph(prepared, layers)
    return unfold_first_layer(model) if prepared.config.recipe is Recipe.CPU and can_unfold(model) else model
