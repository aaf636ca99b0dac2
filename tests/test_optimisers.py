import itertools

import numpy as np
import onnx
import onnxruntime
import pytest

from calib.calibration import load_pictures
from calib.graph_preparation import prepare_graphs
from calib.pictures import PictureStore
from calib.ranges import read_ranges
from engines.ort import count_kernels
from export.precision import make_int8_graph
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.quantisation import Recipe

TILES = sample_tiles(64, 64, 16)


def run(model, level):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["logit"], {"image": TILES})[0]


@pytest.fixture(scope="module", params=list(Recipe))
def prepared(request, calibrated, calibration_folder, small_graphs):
    ranges = read_ranges(calibrated.ranges)
    reference = onnx.load(calibrated.graph(Precision.FP32))
    base = reference
    if request.param is Recipe.TENSORRT:
        base = small_graphs(size=64, precision=Precision.FP16)
    info = read_graph_info(calibrated.graph(Precision.FP32))
    with PictureStore() as store:
        load_pictures(ranges, calibration_folder, info.config, store)
        (graph,) = prepare_graphs(reference, base, ranges, store, request.param, kept=[ranges.kept])
    return graph, info.config.layers


def test_every_choice_of_layers_gives_the_same_with_and_without_optimisers(prepared):
    # With a float layer between INT8 ones, or a float16 bias in an INT8 one, ONNX Runtime would quantise them itself.
    graph, layers = prepared
    spread = None
    on_cpu = graph.config.recipe is Recipe.CPU
    for size in range(1, len(layers) + 1):
        for choice in itertools.combinations(layers, size):
            model = make_int8_graph(graph, choice)
            plain = run(model, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
            found = run(model, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
            spread = spread or float(plain.std())
            # Fused integer convolutions round a half another way, one step of 255 here and there.
            assert np.abs(found - plain).max() < 0.2 * spread, choice
            assert np.abs(found - plain).mean() < 0.03 * spread, choice
            assert not on_cpu or count_kernels(model)["QLinearConv"] == size, choice
