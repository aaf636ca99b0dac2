from collections import Counter

import pytest
from onnx import TensorProto, checker, helper

from export.graph import ExportConfig, make_graph
from export.typed import drop_float_detours
from lfm_deploy.artifacts import InputForm, Precision
from lfm_deploy.network.checkpoint import read_checkpoint


@pytest.mark.parametrize(("form", "casts"), [(InputForm.UINT8, 2), (InputForm.FLOAT, 2)])
def test_an_fp16_graph_casts_only_where_it_enters_and_leaves_float16(small_checkpoint, form, casts):
    graph = make_graph(read_checkpoint(small_checkpoint), ExportConfig(precision=Precision.FP16, input=form))
    assert Counter(node.op_type for node in graph.graph.node)["Cast"] == casts
    weights = [t for t in graph.graph.initializer if len(t.dims) == 4]
    assert {t.data_type for t in weights} == {TensorProto.FLOAT16}
    linear = [t for t in graph.graph.initializer if 1 in t.dims and len(t.dims) == 2]
    assert {t.data_type for t in linear} == {TensorProto.FLOAT}


def detour(back_to):
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Abs", ["wide"], ["wide_abs"]),
        helper.make_node("Cast", ["wide_abs"], ["y"], to=back_to),
        helper.make_node("Relu", ["x"], ["other"]),
    ]
    x = helper.make_tensor_value_info("x0", TensorProto.FLOAT16, [4])
    y = helper.make_tensor_value_info("y", back_to, [4])
    other = helper.make_tensor_value_info("other", TensorProto.FLOAT16, [4])
    middle = helper.make_tensor_value_info("x", TensorProto.FLOAT16, [4])
    nodes.insert(0, helper.make_node("Neg", ["x0"], ["x"]))
    graph = helper.make_graph(nodes, "g", [x], [y, other], value_info=[middle])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def test_a_float_detour_around_abs_is_dropped():
    model = detour(TensorProto.FLOAT16)
    drop_float_detours(model)
    assert [node.op_type for node in model.graph.node] == ["Neg", "Abs", "Relu"]
    checker.check_model(model, full_check=True)


def test_a_cast_that_changes_the_type_is_kept():
    model = detour(TensorProto.DOUBLE)
    drop_float_detours(model)
    assert [node.op_type for node in model.graph.node] == ["Neg", "Cast", "Abs", "Cast", "Relu"]
