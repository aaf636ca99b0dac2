"""From a graph and a calibration to INT8 graphs: prepared once, made for any choice of layers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray

from calib.activations import ActivationReader, collect_moments
from calib.pictures import PictureStore
from calib.range_study import describe_all
from calib.ranges import Kept, Ranges
from export.names import find_convolutions
from export.precision import Int8Config, PreparedGraph, make_int8_graph, prepare_int8
from export.splitting import cut_into_parts
from export.unfolding import can_unfold, unfold_first_layer
from lfm_deploy.quantisation import Recipe


def prepare_graphs(
    reference: onnx.ModelProto,
    base: onnx.ModelProto,
    ranges: Ranges,
    store: PictureStore,
    recipe: Recipe,
    *,
    kept: Sequence[Kept] | None = None,
) -> list[PreparedGraph]:
    """The base graph with ranges, gains and rounded weights of a calibration, for any choice of layers.

    Args:
        reference: float32 graph, whose activations decide how weights are rounded.
        base: graph to quantise, typed as the recipe wants it.
        ranges: calibration.
        store: pictures of the calibration, in their order.
        recipe: machine that the graph is for.
        kept: ranges, gains and parts of each tensor, with all pictures and then without those of each fold, as many as
            are wanted; None for those of the calibration.

    Returns:
        The graph that all pictures chose, and then those that all but a fold's chose.
    """
    configs = [describe_all(found, recipe) for found in kept or (ranges.kept, *ranges.folds)]
    convolutions = find_convolutions(reference)
    weights = {tensor.name: tensor.dims for tensor in reference.graph.initializer}
    taps = {node.input[0]: weights[node.input[1]][2] for node in convolutions}
    reader = ActivationReader(reference, list(taps))
    keep = [{name: _keep_as(name, config) for name in taps} for config in configs]
    moments = collect_moments(reader, _batches_by_fold(ranges, store), taps, keep, ranges.seed)
    return [
        prepare_int8(base, replace(config, moments={node.name: found[node.input[0]] for node in convolutions}))
        for config, found in zip(configs, moments, strict=True)
    ]


def _batches_by_fold(ranges: Ranges, store: PictureStore) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    for fold in range(len(ranges.folds)):
        indices = [index for index, picture in enumerate(ranges.pictures) if picture.fold == fold]
        for images in store.batches(indices):
            yield fold, images


def _keep_as(tensor: str, config: Int8Config) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """What an INT8 layer reads of a tensor's values."""
    low, high = config.ranges[tensor]
    if tensor not in config.parts:
        return lambda values: np.clip(values, low, high)
    parts, gains = config.parts[tensor], config.gains[tensor].astype(np.float32).reshape(-1, 1, 1)
    return lambda values: cut_into_parts(values * gains, parts, high)


def make_final_graph(prepared: PreparedGraph, layers: Sequence[str]) -> onnx.ModelProto:
    """The INT8 graph as it is handed over: for the CPU with its first layer unfolded.

    Args:
        prepared: graph from ``prepare_graphs``.
        layers: names of the layers in INT8.
    """
    model = make_int8_graph(prepared, layers)
    return unfold_first_layer(model) if prepared.config.recipe is Recipe.CPU and can_unfold(model) else model
