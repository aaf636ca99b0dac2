import dataclasses

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.graph import ExportConfig, check_graph, is_made_as, library_versions, make_graph
from lfm_deploy.artifacts import METADATA_KEY, GraphInfo, InputForm, Precision, read_graph_info
from lfm_deploy.errors import BuildError, ShapeError
from lfm_deploy.network.checkpoint import read_checkpoint


@pytest.fixture(scope="module")
def checkpoint(small_checkpoint):
    return read_checkpoint(small_checkpoint)


@pytest.fixture(scope="module")
def graph(checkpoint):
    return make_graph(checkpoint, ExportConfig())


def sizes(value):
    return [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]


def test_the_interface_is_the_contract(graph):
    (image,), (logit,) = graph.graph.input, graph.graph.output
    assert (image.name, image.type.tensor_type.elem_type) == ("image", TensorProto.UINT8)
    assert sizes(image) == ["batch", 256, 256, 3]
    assert (logit.name, logit.type.tensor_type.elem_type, sizes(logit)) == ("logit", TensorProto.FLOAT, ["batch"])


def test_native_size_has_dynamic_even_sides(checkpoint):
    graph = make_graph(checkpoint, ExportConfig(size="native", input=InputForm.FLOAT, evidence=True))
    assert sizes(graph.graph.input[0]) == ["batch", 3, "2*half_height", "2*half_width"]
    assert [out.name for out in graph.graph.output] == ["logit", "evidence_values", "evidence_positions"]
    assert graph.graph.output[2].type.tensor_type.elem_type == TensorProto.INT32


def test_metadata_says_what_it_is_and_where_it_comes_from(graph, checkpoint):
    (entry,) = graph.metadata_props
    assert entry.key == METADATA_KEY
    info = GraphInfo.from_json(entry.value, "graph")
    assert (info.checkpoint_sha256, info.config) == (checkpoint.sha256, checkpoint.config)
    assert info.contract.size == 256
    assert {"torch", "onnx", "lfm-deploy"} <= set(info.versions)


def test_no_trace_of_the_machine_is_left(graph):
    content = graph.SerializeToString()
    assert b".py" not in content
    assert b"site-packages" not in content


def test_the_same_checkpoint_gives_the_same_bytes(graph, checkpoint, export_anew):
    again = make_graph(checkpoint, ExportConfig())
    assert again.SerializeToString(deterministic=True) == graph.SerializeToString(deterministic=True)


def test_too_small_or_odd_sizes_are_refused(checkpoint):
    with pytest.raises(ShapeError, match="Top-K pooling needs"):
        make_graph(checkpoint, ExportConfig(size=8))


def edited(graph, edit):
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    edit(copy)
    return copy


def add_dropout(model):
    (relu, *_) = [node for node in model.graph.node if node.op_type == "Relu"]
    index = list(model.graph.node).index(relu)
    model.graph.node.insert(index + 1, helper.make_node("Dropout", [relu.output[0]], ["dropped"], name="dropout"))


def add_topk(model):
    (topk,) = [node for node in model.graph.node if node.op_type == "TopK"]
    twin = helper.make_node("TopK", list(topk.input), ["values_again", "positions_again"], name="twin")
    model.graph.node.insert(list(model.graph.node).index(topk) + 1, twin)


def lower_opset(model):
    model.opset_import[0].version = 18


def break_weight(model):
    tensor = next(t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) == 4)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[0] = np.inf
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def break_wiring(model):
    model.graph.node[-1].input[0] = "nowhere"


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (add_dropout, "training operators"),
        (add_topk, "2 TopK"),
        (lower_opset, "opset 18"),
        (break_weight, "cannot hold"),
        (break_wiring, "not valid ONNX"),
    ],
)
def test_check_graph_catches(graph, small_config, edit, complaint):
    with pytest.raises(BuildError, match=complaint):
        check_graph(edited(graph, edit), Precision.FP32, small_config)


def test_check_graph_catches_a_graph_of_another_precision(graph, small_config):
    with pytest.raises(BuildError, match=r"Conv .* in FLOAT"):
        check_graph(graph, Precision.FP16, small_config)


def test_versions_of_the_decoder_are_recorded_and_make_no_other_graph(small_graph):
    info = read_graph_info(small_graph)
    assert {"pillow", "libjpeg-turbo"} <= info.versions.keys()
    wanted = dataclasses.replace(info, versions=library_versions())
    assert is_made_as(info, wanted)
    assert is_made_as(wanted, wanted)  # a graph of before they were recorded
    assert is_made_as(dataclasses.replace(info, versions=info.versions | {"pillow": "0"}), wanted)
    assert not is_made_as(dataclasses.replace(info, versions=info.versions | {"torch": "0"}), wanted)
    assert not is_made_as(dataclasses.replace(info, checkpoint_sha256="0" * 64), wanted)
