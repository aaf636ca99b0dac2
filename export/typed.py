"""Typed graphs: a network's arithmetic is written into its graph, and decided here, not by a converter.

FP16 means float16 from NPR to the pooling; means and maxima of a channel, the linear layer and the logit stay float32.
BF16 means bfloat16 in the same places, but for Top-K pooling, which ONNX has no bfloat16 for in these versions: it
selects from the same values in float32.
The graph is exported from a network whose parameters already have those types, so no operator's type is guessed. One
pass follows, because the exporter computes |x| of float16 in float32: casting to float32 and back loses nothing and
|x| changes nothing but the sign bit, so Cast -> Abs -> Cast equals Abs.
"""

import onnx
from onnx import TensorProto

from export.names import SUBTRACTION
from lfm_deploy.artifacts import Precision
from lfm_deploy.errors import BuildError

_ONNX_TYPES = {
    Precision.FP32: TensorProto.FLOAT,
    Precision.FP16: TensorProto.FLOAT16,
    Precision.BF16: TensorProto.BFLOAT16,
}


def drop_float_detours(model: onnx.ModelProto) -> None:
    """Replace Cast -> Abs -> Cast by Abs, in place, where the outer types are the same."""
    graph = model.graph
    types = {info.name: info.type.tensor_type.elem_type for info in graph.value_info}
    producers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for absolute in [node for node in graph.node if node.op_type == "Abs"]:
        before = producers.get(absolute.input[0])
        after = readers.get(absolute.output[0], [])
        if before is None or before.op_type != "Cast" or [node.op_type for node in after] != ["Cast"]:
            continue
        if len(readers[before.output[0]]) != 1 or types.get(before.input[0]) != after[0].attribute[0].i:
            continue
        absolute.input[0], absolute.output[0] = before.input[0], after[0].output[0]
        graph.node.remove(before)
        graph.node.remove(after[0])


def check_types(model: onnx.ModelProto, precision: Precision) -> None:
    """Check that every heavy operator of a graph computes in the type that its precision names.

    Raises:
        BuildError: a convolution, pooling, NPR or Top-K operator has another type, or the linear layer is not
            float32.
    """
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {
        info.name: info.type.tensor_type.elem_type for info in (*inferred.value_info, *inferred.input, *inferred.output)
    } | {tensor.name: tensor.data_type for tensor in inferred.initializer}
    expected = dict.fromkeys(("Sub", "Abs", "Conv", "Relu", "MaxPool", "TopK"), _ONNX_TYPES[precision])
    if precision is Precision.BF16:
        expected["TopK"] = TensorProto.FLOAT
    expected |= dict.fromkeys(("Gemm", "MatMul", "ReduceSum", "ReduceMean", "ReduceMax", "Softmax"), TensorProto.FLOAT)
    kinds = [(node, "Sub" if node.name == SUBTRACTION else node.op_type) for node in inferred.node]
    if any(kind == "Sub" and types[node.input[0]] == TensorProto.FLOAT for node, kind in kinds):
        # Normalised input: its difference is taken in float32 on purpose.
        expected["Sub"] = expected["Abs"] = TensorProto.FLOAT
    wrong = [
        f"{node.op_type} {node.name} in {TensorProto.DataType.Name(types[node.input[0]])}"
        for node, kind in kinds
        if kind in expected and types[node.input[0]] != expected[kind]
    ]
    if wrong:
        raise BuildError(f"the exported {precision} graph computes {', '.join(wrong)}")
