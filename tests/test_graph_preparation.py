from pathlib import Path

import numpy as np
import onnx
import pytest

from calib.calibration import load_pictures
from calib.graph_preparation import make_final_graph, prepare_graphs
from calib.pictures import PictureStore
from calib.ranges import read_ranges
from calib.search_findings import read_findings
from export.precision import make_int8_graph
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.quantisation import Recipe


@pytest.fixture(scope="module")
def ranges(calibrated):
    return read_ranges(calibrated.ranges)


@pytest.fixture(scope="module", params=list(Recipe))
def prepared(request, calibrated, ranges, small_graphs):
    """The recipe's graph."""
    reference = base = onnx.load(calibrated.graph(Precision.FP32))
    if request.param is Recipe.TENSORRT:
        base = small_graphs(size=64, precision=Precision.FP16)
    info = read_graph_info(calibrated.graph(Precision.FP32))
    with PictureStore() as store:
        load_pictures(ranges, Path(ranges.images), info.config, store)
        return prepare_graphs(reference, base, ranges, store, request.param, kept=[ranges.kept])[0]


def test_it_takes_the_ranges_that_the_recipe_chose(prepared, ranges):
    recipe = prepared.config.recipe
    assert prepared.config.ranges == {
        name: tensor.candidates[recipe][tensor.choice[recipe]]
        for name, tensor in ranges.tensors.items()
        if recipe in tensor.choice
    }
    assert set(prepared.config.moments) == set(prepared.codes) == {"conv1", "conv2", "conv3", "projection"}


def test_the_final_graph_for_the_cpu_alone_is_unfolded(prepared):
    plain, final = make_int8_graph(prepared, ["conv1", "conv3"]), make_final_graph(prepared, ["conv1", "conv3"])
    same = plain.SerializeToString(deterministic=True) == final.SerializeToString(deterministic=True)
    assert same is (prepared.config.recipe is Recipe.TENSORRT)
    # With its first layer in floating point there is nothing to unfold.
    plain, final = make_int8_graph(prepared, ["conv3"]), make_final_graph(prepared, ["conv3"])
    assert plain.SerializeToString(deterministic=True) == final.SerializeToString(deterministic=True)


def test_the_graph_of_a_workdir_is_prepared_on_all_pictures(calibrated, ranges):
    reference = onnx.load(calibrated.graph(Precision.FP32))
    info = read_graph_info(calibrated.graph(Precision.FP32))
    with PictureStore() as store:
        load_pictures(ranges, Path(ranges.images), info.config, store)
        again = prepare_graphs(reference, reference, ranges, store, Recipe.CPU)[0]
    layers = [
        name for name, layer in read_findings(calibrated)[Recipe.CPU]["layers"].items() if layer["precision"] == "int8"
    ]
    model, kept = make_final_graph(again, layers), onnx.load(calibrated.graph(Precision.INT8, Recipe.CPU))
    weights, expected = (
        {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in one.graph.initializer} for one in (model, kept)
    )
    assert weights.keys() == expected.keys()
    assert all(np.array_equal(weights[name], expected[name]) for name in weights)
