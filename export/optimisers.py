"""Writing INT8 graphs so that ONNX Runtime's optimisers do not change their arithmetic without a word.

Both are about WeightBiasQuantization (ONNX Runtime 1.32), which turns weights and biases of convolutions into integers
where it thinks that a graph's author forgot to.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from export.names import find_convolutions


def keep_in_float(model: onnx.ModelProto, layers: Sequence[str]) -> None:
    """Write the ReLU of layers that stay in floating point as a maximum with 0, in place.

    Where such a layer stands between two in INT8, the optimiser sees a convolution between DequantizeLinear and
    QuantizeLinear and quantises its weights to the nearest. It does not look behind a maximum.

    Args:
        model: a float32 graph with the names of ``export.names``.
        layers: names of the layers that become INT8.
    """
    graph = model.graph
    readers = {name: node for node in graph.node for name in node.input}
    for convolution in find_convolutions(model):
        follower = readers[convolution.output[0]]
        if convolution.name not in layers and follower.op_type == "Relu":
            zero = f"{convolution.name}.zero"
            graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), zero))
            follower.op_type = "Max"
            follower.input.append(zero)


def split_biases(model: onnx.ModelProto, layers: Sequence[str]) -> None:
    """Move the biases of INT8 convolutions into a sum of their own, in place; builders fuse it again.

    The optimiser turns the float16 bias of a quantised convolution into integers and does the sum in float16 on the
    way, where it overflows: the published checkpoint's fourth layer came out wrong by 9 in the logit. It leaves a sum
    alone.

    Args:
        model: a quantised float16 graph with the names of ``export.names``.
        layers: names of the layers that are in INT8.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for convolution in find_convolutions(model):
        if convolution.name not in layers or len(convolution.input) < 3:
            continue
        bias = weights[convolution.input.pop()]
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias).reshape(-1, 1, 1), bias.name))
        output = convolution.output[0]
        convolution.output[0] = f"{convolution.name}.product"
        total = onnx.helper.make_node(
            "Add", [convolution.output[0], bias.name], [output], name=f"{convolution.name}.sum"
        )
        graph.node.insert(list(graph.node).index(convolution) + 1, total)
    del graph.value_info[:]  # shapes of the biases have changed
    graph.value_info.extend(onnx.shape_inference.infer_shapes(model).graph.value_info)
