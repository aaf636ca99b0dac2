"""One activation quantised and nothing else, to see what its range does to the logit.

The graph behind the tensor is cut off and takes the tensor itself, so that what lies in front of it is computed once
for all ranges that are tried. Where the INT8 graph would change weights in front of the tensor (gains, parts, levels:
see ``export.equalisation``, ``export.splitting`` and ``export.levelling``), here the same is done to the tensor, and
undone behind the quantisation.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.names import LAST_OUTPUT
from export.precision import Int8Config, choose_scale


class _Chain:
    """Nodes one after the other, each on what the last one gave."""

    def __init__(self, tensor: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.last = tensor

    def add(self, kind: str, *values: NDArray[np.generic]) -> str:
        """Append a node that also reads constants; the name of what it gives."""
        names = [f"simulated.{len(self.constants) + index}" for index in range(len(values))]
        self.constants += [numpy_helper.from_array(value, name) for value, name in zip(values, names, strict=True)]
        output = f"simulated.{kind}.{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, [self.last, *names], [output]))
        self.last = output
        return output

    def quantise(self, scale: dict[str, NDArray[np.generic]]) -> str:
        """Append QuantizeLinear and DequantizeLinear."""
        values = scale["scale"].astype(np.float32), scale["zero_point"]
        self.add("QuantizeLinear", *values)
        return self.add("DequantizeLinear", *values)


def simulate_tensor(base: onnx.ModelProto, config: Int8Config, tensor: str) -> onnx.ModelProto:
    """The graph behind a tensor, with this tensor quantised.

    Args:
        base: a float32 graph with inferred shapes; it is left as it is.
        config: settings of the quantisation; the tensor is equalised, written in parts or levelled if they say so.
        tensor: name of the activation, which becomes the only input, float32 ``(N, C, H, W)``.
    """
    model: onnx.ModelProto = onnx.utils.Extractor(base).extract_model([tensor], ["logit"])
    chain = _Chain(tensor)
    scale = choose_scale(tensor, config)
    if tensor == LAST_OUTPUT and config.channel_ranges is not None:
        lows = config.channel_ranges[:, :1].reshape(-1, 1, 1)
        steps = (config.channel_ranges[:, 1:].reshape(-1, 1, 1) - lows) / config.recipe.levels
        chain.add("Sub", lows.astype(np.float32))
        chain.add("Div", steps.astype(np.float32))
        chain.quantise(scale)
        chain.add("Mul", steps.astype(np.float32))
        chain.add("Add", lows.astype(np.float32))
    elif tensor in config.gains:
        gains = config.gains[tensor].reshape(-1, 1, 1)
        chain.add("Mul", gains.astype(np.float32))
        _quantise_parts(chain, scale, config.parts.get(tensor, np.ones(len(gains), np.int64)), config.recipe.levels)
        chain.add("Mul", (1 / gains).astype(np.float32))
    else:
        chain.quantise(scale)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == tensor:
                node.input[index] = chain.last
    for node in reversed(chain.nodes):
        model.graph.node.insert(0, node)
    model.graph.initializer.extend(chain.constants)
    return model


def _quantise_parts(
    chain: _Chain, scale: dict[str, NDArray[np.generic]], parts: NDArray[np.int64], levels: int
) -> None:
    """Quantise each channel in its parts, and add them up; see ``export.splitting``."""
    whole, high = chain.last, float(scale["scale"]) * levels
    total = chain.quantise(scale)
    for number in range(1, int(parts.max())):
        width = 2.0**number
        # A channel without this part has nothing above the largest number.
        begins = np.where(parts > number, (width - 1) * high, np.finfo(np.float32).max).astype(np.float32)
        chain.last = whole
        chain.add("Sub", begins.reshape(-1, 1, 1))
        chain.add("Relu")
        chain.add("Mul", np.array(1 / width, np.float32))
        chain.quantise(scale)
        part = chain.add("Mul", np.array(width, np.float32))
        chain.nodes.append(onnx.helper.make_node("Add", [total, part], [f"simulated.total.{number}"]))
        total = chain.last = f"simulated.total.{number}"
