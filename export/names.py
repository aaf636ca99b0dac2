"""Names of layers and tensors that stay the same whatever the precision: calibration and INT8 speak of them.

The exporter numbers its tensors by how a graph came about, so that a float32 and a float16 graph of one network call
the same tensor by different names. Here the convolutions are called ``conv1`` ... ``projection``, after which their
ReLU, pooling, weights and inputs are named: ``conv2.relu``, ``conv2.pool``, ``conv2.weight``, ``conv2.input``.
"""

import onnx

from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import BuildError

LAST_OUTPUT = "projection.output"
"""What Top-K pooling selects from."""


def input_name(layer: str) -> str:
    """Name of the tensor that a convolution reads."""
    return f"{layer}.input"


def quantisable_tensors(config: ModelConfig) -> tuple[str, ...]:
    """The inputs of all convolutions, in order, and the output of the last."""
    return (*(input_name(layer) for layer in config.layers), LAST_OUTPUT)


def find_convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The convolutions of a graph, in order."""
    return [node for node in model.graph.node if node.op_type == "Conv"]


def name_layers(model: onnx.ModelProto, config: ModelConfig) -> None:
    """Give an exported graph the names above, in place.

    Raises:
        BuildError: it does not have one convolution for each layer.
    """
    convolutions = find_convolutions(model)
    if len(convolutions) != len(config.layers):
        raise BuildError(f"the exported graph has {len(convolutions)} convolutions instead of {len(config.layers)}")
    names: dict[str, str] = {}
    readers = {name: node for node in model.graph.node for name in node.input}
    for layer, convolution in zip(config.layers, convolutions, strict=True):
        convolution.name = layer
        names[convolution.input[0]] = input_name(layer)
        names |= {old: f"{layer}.{part}" for part, old in zip(("weight", "bias"), convolution.input[1:], strict=False)}
        tensor = convolution.output[0]
        while (reader := readers[tensor]).op_type in ("Relu", "MaxPool"):
            reader.name = f"{layer}.{'relu' if reader.op_type == 'Relu' else 'pool'}"
            tensor = reader.output[0]
    names[convolutions[-1].output[0]] = LAST_OUTPUT
    _rename(model, names)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{index}"


def _rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    for node in model.graph.node:
        for tensors in (node.input, node.output):
            for index, name in enumerate(tensors):
                tensors[index] = names.get(name, name)
    for part in (*model.graph.value_info, *model.graph.initializer):
        part.name = names.get(part.name, part.name)
