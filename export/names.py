"""Names of layers and tensors that stay the same whatever the precision: calibration and INT8 speak of them.

The exporter numbers its tensors by how a graph came about, so that a float32 and a float16 graph of one network call
the same tensor by different names. Here the convolutions are called ``conv1`` ... ``projection``, after which their
ReLU, pooling, weights and inputs are named: ``conv2.relu``, ``conv2.pool``, ``conv2.weight``, ``conv2.input``. Those of
other backbones are called as in their state dict: ``layer1.0.conv2``; the sum behind a bottleneck is ``layer1.0.sum``.
"""

from typing import TYPE_CHECKING

from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import BuildError

if TYPE_CHECKING:
    import onnx

_FOLLOWERS = {"Relu": "relu", "MaxPool": "pool", "Add": "sum"}
LAST_OUTPUT = "projection.output"
"""What Top-K pooling selects from."""
SUBTRACTION = "blocks.subtract"
"""Name of a convolution that stands for NPR's subtraction."""


def input_name(layer: str) -> str:
    """Name of the tensor that a convolution reads."""
    return f"{layer}.input"


def quantisable_tensors(config: ModelConfig) -> tuple[str, ...]:
    """The inputs of all convolutions, in order, and the output of the last."""
    return (*(input_name(layer) for layer in config.layers), LAST_OUTPUT)


def find_convolutions(model: "onnx.ModelProto") -> list["onnx.NodeProto"]:
    """The convolutions of a graph, in order."""
    return [node for node in model.graph.node if node.op_type == "Conv"]


def name_layers(model: "onnx.ModelProto", config: ModelConfig) -> None:
    """Give an exported graph the names above, in place.

    Raises:
        BuildError: the graph does not have one convolution for each layer.
    """
    convolutions = find_convolutions(model)
    if len(convolutions) != len(config.layers):
        raise BuildError(f"the exported graph has {len(convolutions)} convolutions instead of {len(config.layers)}")
    names: dict[str, str] = {}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for layer, convolution in zip(config.layers, convolutions, strict=True):
        convolution.name = layer
        names.setdefault(convolution.input[0], input_name(layer))
        names |= {old: f"{layer}.{part}" for part, old in zip(("weight", "bias"), convolution.input[1:], strict=False)}
        tensor, owner = convolution.output[0], layer
        while len(found := readers[tensor]) == 1 and (reader := found[0]).op_type in _FOLLOWERS:
            owner = layer.rpartition(".")[0] if reader.op_type == "Add" else owner  # a bottleneck's, not a layer's
            reader.name = f"{owner}.{_FOLLOWERS[reader.op_type]}"
            tensor = reader.output[0]
        if layer == "projection":
            names[convolution.output[0]] = LAST_OUTPUT
    _rename(model, names)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{index}"


def _rename(model: "onnx.ModelProto", names: dict[str, str]) -> None:
    for node in model.graph.node:
        for tensors in (node.input, node.output):
            for index, name in enumerate(tensors):
                tensors[index] = names.get(name, name)
    for part in (*model.graph.value_info, *model.graph.initializer):
        part.name = names.get(part.name, part.name)
