"""What a typed graph does from its picture to its logit, held against what its metadata says.

Kernels that take only the constants of a graph would not see that a pooling is gone from it, or a step of it another.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from engines.amx.constants import Constants
from lfm_deploy.artifacts import GraphInfo, Precision
from lfm_deploy.config import ValueOrder

# Nodes that move or mark values only; those of scales are checked where the scales are read.
_LAYOUT = frozenset({"Transpose", "Reshape", "Concat", "Slice", "Split", "QuantizeLinear", "DequantizeLinear"})
_FIXED = {"group": 1, "pads": 0, "dilations": 1, "ceil_mode": 0, "largest": 1, "axis": 2, "keepdims": 0}
_CHECKED = frozenset({"Conv", "MaxPool", "TopK", "ReduceSum", "Transpose"})
_ORDERS = ([0, 3, 1, 2], [0, 2, 3, 1])  # channels from the end to the front, and back
_POOLINGS = ([2, 2], [1, 4])  # four neighbours, or four windows that lie beside each other


def check_chain(constants: Constants, info: GraphInfo) -> None:
    """Refuse a graph that does more, less or something else than its metadata says.

    Args:
        constants: constants and nodes of the graph.
        info: contract, architecture and precision that it states.

    Raises:
        ArtifactError: the graph is not the one that its metadata says.
    """
    nodes = _walk(constants)
    found, expected = list(_name_steps(nodes)), _list_steps(constants, info)
    if found != expected:
        constants.refuse(f"its steps are {', '.join(found)}, and those of its architecture {', '.join(expected)}")
    largest = next(node for node in nodes if node.op_type == "TopK")
    constants.expect(largest.input[1], [info.config.k])
    for node in constants.nodes:
        _check_attributes(constants, node)
    ending = "_quantized" if info.precision is Precision.INT8 else ""
    for name, node in constants.convolutions.items():
        wanted = [f"{name}.weight{ending}", f"{name.split('.')[0]}.bias{ending}"]
        if name == "blocks.subtract":
            wanted = ["blocks.differences"]
        _check_sources(constants, node, wanted)
    *_, weighed, _, logit = (node for node in nodes if node.op_type not in _LAYOUT)
    _check_sources(constants, weighed, ["head.weight"])
    _check_sources(constants, logit, ["head.bias"])


def _walk(constants: Constants) -> list[Any]:
    """Nodes from behind ``Abs`` to the logit, in their order."""
    nodes = []
    node = constants.makers.get("logit")
    while node is not None and node.op_type != "Abs":
        nodes.append(node)
        if node.op_type == "Max":
            windows = [constants.makers.get(name) for name in node.input]
            names = [f"conv1.window{number}" for number in range(4)]
            if [window and (window.name, window.input[0]) for window in windows] != [
                (name, "blocks.residual0") for name in names
            ]:
                constants.refuse(f"{node.name} does not take the largest of {', '.join(names)}")
        node = constants.makers.get(node.input[0])
    return nodes[::-1]


def _name_steps(nodes: list[Any]) -> Iterator[str]:
    """What nodes compute; a slice behind the pooling turns its values round."""
    pooled = False
    for node in nodes:
        pooled = pooled or node.op_type == "TopK"
        if node.op_type == "Conv":
            yield str(node.name)
        elif node.op_type not in _LAYOUT or (pooled and node.op_type == "Slice"):
            yield str(node.op_type)


def _check_sources(constants: Constants, node: Any, wanted: list[str]) -> None:
    """Refuse a node whose constants are not those of its name; a bias may be missing."""
    found = [constants.find_source(name) for name in node.input[1:]]
    if found != wanted[: len(found)]:
        constants.refuse(f"{node.name} reads {', '.join(found)}, not {', '.join(wanted)}")


def _list_steps(constants: Constants, info: GraphInfo) -> list[str]:
    config = info.config
    integers = info.precision is Precision.INT8
    steps = ["conv1", "MaxPool"] if integers else ["conv1.window0", "Max", "Relu"]
    for number in range(2, config.depth + 1):
        steps.append(f"conv{number}")
        steps += [] if integers else ["Relu"]
        steps += ["MaxPool"] if number <= config.pools and number < config.depth else []
    steps += ["projection", *([] if integers else ["Cast"]), "TopK"]
    if integers and constants.shape("selected.step"):
        steps += ["Mul", "Add"]
    if config.order is ValueOrder.ASCENDING:
        steps.append("Slice")
    return [*steps, "Mul", "ReduceSum", "Add"]


def _check_attributes(constants: Constants, node: Any) -> None:
    from onnx import helper

    if node.op_type not in _CHECKED:
        return
    values = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    wrong = [name for name, value in values.items() if name in _FIXED and (np.array(value) != _FIXED[name]).any()]
    step = [1, 1]
    if node.op_type == "MaxPool":
        step = values["kernel_shape"]
        wrong += [] if step in _POOLINGS else ["kernel_shape"]
    if node.name == "blocks.subtract":
        step = [2, 2]
    if node.op_type in ("Conv", "MaxPool") and values.get("strides", [1, 1]) != step:
        wrong.append("strides")
    if values.get("auto_pad", b"NOTSET") != b"NOTSET":
        wrong.append("auto_pad")
    if node.op_type == "Transpose" and values.get("perm") not in _ORDERS:
        wrong.append("perm")
    if wrong:
        constants.refuse(f"{node.name} has another {', '.join(wrong)}")
