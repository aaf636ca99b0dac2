"""The kernels of an engine as tensorrt-rtx lists them in its build log, which needs no GPU.

With detailed profiling verbosity the log has a line for each kernel, in the order in which they run:

    Name: conv1_myl0_2, LayerType: correlation,
    Inputs: [ { Name: …, Dimensions: [-1,4,256,256], …, Datatype: Half, Format: (NHWC) … }],
    Constants: [ { … }, { … }], Outputs: [ { … }], TacticName: …, StreamId: 0, Metadata: [ONNX Layer: conv1]…

A kernel moves what it reads and writes, each tensor once. A dimension of -1 is the batch, so what has one is moved for
every picture, and the rest once a run. Products are those of a convolution,

    values of the output x values of the weight / channels of the output,

and one for each value of the output and each constant with a value a channel in a kernel of the library's own compiler.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from lfm_deploy.kernels import Kernel

_LINE = re.compile(
    r"Name: (?P<name>[^,]*), LayerType: (?P<kind>[^,]*), Inputs: \[(?P<inputs>.*)\], Constants: \[(?P<constants>.*)\], "
    r"Outputs: \[(?P<outputs>.*)\], TacticName: "
)
_TENSOR = re.compile(r"\{ Name: (?P<name>[^,]*), Dimensions: \[(?P<sides>[-\d,]*)\],.*?Datatype: (?P<type>\w+),.*?\}")
_ITEM_BYTES = {
    "Float": 4, "Half": 2, "BFloat16": 2, "Int8": 1, "UInt8": 1, "Int32": 4, "Int64": 8, "Bool": 1,
}  # fmt: skip
_ARITHMETIC = {"Float": "fp32", "Half": "fp16", "Int8": "int8"}
_COMPILED = "kgen"
# Alone, and together with what follows it.
_CONVOLUTIONS = frozenset({"correlation", "runtime_fusion"})
# Those whose products are counted, and those that have none.
_KINDS = _CONVOLUTIONS | {_COMPILED, "maxpool", "shape_call"}


@dataclass(frozen=True, slots=True)
class _Tensor:
    """Name, sides, -1 for the batch, and the library's name of the type."""

    name: str
    sides: tuple[int, ...]
    type: str

    @property
    def count(self) -> int:
        """Values of one picture."""
        return abs(math.prod(self.sides))

    @property
    def nbytes(self) -> int:
        return self.count * _ITEM_BYTES[self.type]


def read_kernels(texts: Iterable[str]) -> tuple[Kernel, ...] | None:
    """The kernels that a build log lists, in their order.

    Args:
        texts: messages of the library.

    Returns:
        The kernels; None where the log lists none, or one that cannot be counted: of a kind or type that is not known
        here, or with sides that only the pictures decide.
    """
    found = []
    for line in (line for text in texts for line in text.splitlines()):
        match = _LINE.search(line)
        if match is None:
            continue
        kernel = _count(match)
        if kernel is None:
            return None
        found.append(kernel)
    return tuple(found) or None


def _count(line: re.Match[str]) -> Kernel | None:
    inputs, constants, outputs = (_tensors(line[part]) for part in ("inputs", "constants", "outputs"))
    everything = [*inputs, *constants, *outputs]
    known = all(tensor.type in _ITEM_BYTES and -1 not in tensor.sides[1:] for tensor in everything)
    if line["kind"] not in _KINDS or not known:
        return None
    arithmetic, products = None, 0
    if line["kind"] in _CONVOLUTIONS:
        weight = _find_weight([*constants, *inputs], outputs[0])
        if weight is None or weight.type not in _ARITHMETIC:
            return None
        arithmetic, products = _ARITHMETIC[weight.type], outputs[0].count * weight.count // weight.sides[0]
    elif line["kind"] == _COMPILED:
        by_channel = sum(tensor.count == _channels(outputs) for tensor in constants)
        arithmetic, products = ("cores", by_channel * outputs[0].count) if by_channel else (None, 0)
    return Kernel(
        name=line["name"],
        kind=line["kind"],
        picture_bytes=sum(tensor.nbytes for tensor in everything if -1 in tensor.sides),
        run_bytes=sum(tensor.nbytes for tensor in everything if -1 not in tensor.sides),
        arithmetic=arithmetic,
        multiply_adds=products,
    )


def _tensors(text: str) -> list[_Tensor]:
    """The tensors of a list; one that is named several times, for several of its parts, once."""
    found = [
        _Tensor(match["name"], tuple(int(side) for side in match["sides"].split(",") if side), match["type"])
        for match in _TENSOR.finditer(text)
    ]
    return list(dict.fromkeys(found))


def _find_weight(tensors: list[_Tensor], output: _Tensor) -> _Tensor | None:
    """The weights, which are an input where the library turned them into another type first."""
    channels = output.sides[1]
    fitting = [tensor for tensor in tensors if len(tensor.sides) == 4 and tensor.sides[0] == channels]
    return max(fitting, key=lambda tensor: tensor.count, default=None)


def _channels(outputs: list[_Tensor]) -> int | None:
    """Channels of the first output where it is a map; else None, which no count equals."""
    return outputs[0].sides[1] if outputs and len(outputs[0].sides) == 4 else None
