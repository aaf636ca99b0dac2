"""How much work a graph is: multiply-adds and memory traffic, counted from the ONNX file itself.

Multiply-adds are those of the matrix products: convolutions and linear layers. The least that has to move are the
graph's inputs, its constants and its outputs, once each, as they are stored.

Traffic layer by layer is a stated model, not a measurement: every convolution, matrix product, pooling, Top-K and sum
reads its inputs and weights once and writes its outputs once, in the width of its arithmetic; everything between them
(casts, NPR, ReLU, quantising, reshaping) is taken to be fused into its neighbours, and caches are taken to keep nothing
between two of them.
"""

import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lfm_deploy.errors import ArtifactError

WIDTHS = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}

_PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "TopK", "ReduceMax", "ReduceMean", "Softmax"})
_STEPS = _PRODUCTS | _POOLS | {"ReduceSum"}
_FOREIGN = frozenset({"ConvTranspose", "ConvInteger", "QLinearConv", "MatMulInteger", "QLinearMatMul", "Einsum"})
_TO_INTEGERS, _FROM_INTEGERS = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one run of a graph takes.

    Attributes:
        multiply_adds: multiply-adds by the precision that the graph gives them: ``"fp32"``, ``"fp16"`` or ``"int8"``.
        elements: values read and written layer by layer, by the same precisions.
        least_bytes: bytes that have to move whatever the kernels: inputs, constants and outputs, once each.
    """

    multiply_adds: dict[str, int]
    elements: dict[str, int]
    least_bytes: int

    @property
    def total_multiply_adds(self) -> int:
        """Of all precisions."""
        return sum(self.multiply_adds.values())

    def in_kernels(self, kernels: dict[str, str]) -> "Work":
        """The same work where a runtime has other kernels than the graph asks for, such as float32 for float16."""

        def moved(counts: dict[str, int]) -> dict[str, int]:
            found: Counter[str] = Counter()
            for precision, count in counts.items():
                found[kernels.get(precision, precision)] += count
            return dict(found)

        return replace(self, multiply_adds=moved(self.multiply_adds), elements=moved(self.elements))

    @property
    def traffic_bytes(self) -> int:
        """Bytes read and written layer by layer."""
        return sum(count * WIDTHS[precision] for precision, count in self.elements.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWork:
    """One layer and one picture.

    Attributes:
        name: name of the layer.
        output: shape of the layer's output, without the batch.
        parameters: number of learned values.
        multiply_adds: multiply-adds for one picture.
        normalised: values that a batch norm behind it normalises; 0 where it is folded into the layer.
    """

    name: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int
    normalised: int = 0


def count_work(path: Path | str, batch: int, side: int) -> Work:
    """The work of one run of an ONNX graph whose first input is a batch of pictures.

    Args:
        path: path of the ONNX file.
        batch: pictures in a run.
        side: side of the square pictures in pixels, where the graph leaves it open.

    Raises:
        ArtifactError: the graph has a kind of product that is not counted, or a shape that cannot be told.
    """
    import onnx

    model = onnx.load(path)
    graph = _Graph(_with_shapes(model, batch, side), str(path))
    products: Counter[str] = Counter()
    elements: Counter[str] = Counter()
    for node in graph.nodes:
        if node.op_type in _FOREIGN:
            raise ArtifactError(f"{path}: its work cannot be counted: {node.op_type} is not among {sorted(_PRODUCTS)}")
        if node.op_type not in _STEPS:
            continue
        if node.op_type in _PRODUCTS:
            products[graph.arithmetic(node)] += graph.multiply_adds(node)
        for name in node.input:
            if name and graph.kind(name) != "int64":  # shapes, axes and k are not traffic
                elements[graph.width_before(name)] += graph.size(name)
        for name in node.output:
            if name in graph.readers:
                elements[graph.width_after(name)] += graph.size(name)
    return Work(multiply_adds=dict(products), elements=dict(elements), least_bytes=graph.least_bytes)


def count_layers(path: Path | str, side: int) -> list[LayerWork]:
    """The convolutions of a graph, in order, for one picture of ``side`` pixels where the graph leaves it open.

    Raises:
        ArtifactError: a shape cannot be told.
    """
    import onnx

    graph = _Graph(_with_shapes(onnx.load(path), 1, side), str(path))
    return [
        LayerWork(
            name=node.name,
            output=graph.shape(node.output[0])[1:],
            parameters=sum(graph.size(name) for name in node.input[1:]),
            multiply_adds=graph.multiply_adds(node),
        )
        for node in graph.nodes
        if node.op_type == "Conv"
    ]


def _with_shapes(model: Any, batch: int, side: int) -> Any:
    """The model for one batch size, with every shape worked out."""
    from onnx import shape_inference

    del model.graph.value_info[:]  # these are in terms of an open batch
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    sizes[0].dim_value = batch
    for size in sizes[1:]:
        if not size.HasField("dim_value"):
            size.dim_value = side
    _settle_sizes(model.graph)
    return shape_inference.infer_shapes(model, data_prop=True)


def _settle_sizes(graph: Any) -> None:
    """Replace what a graph computes from the size of its input by the results: shape inference does not divide."""
    from onnx import TensorProto, numpy_helper
    from onnx.reference import ReferenceEvaluator

    image = graph.input[0]
    sizes = [size.dim_value for size in image.type.tensor_type.shape.dim]
    constants = [tensor for tensor in graph.initializer if tensor.data_type == TensorProto.INT64]
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in constants}
    pixels = np.broadcast_to(np.uint8(0), sizes)  # takes no memory
    for node in list(graph.node):
        values = known | ({image.name: pixels} if node.op_type == "Shape" else {})
        if node.input and all(name in values for name in node.input):
            results = ReferenceEvaluator(node).run(None, {name: values[name] for name in node.input})
            known |= dict(zip(node.output, results, strict=True))
            graph.node.remove(node)
            graph.initializer.extend(numpy_helper.from_array(known[name], name) for name in node.output)


class _Graph:
    """A graph with one question answered for each tensor: shape, type, who makes it, who reads it."""

    def __init__(self, model: Any, where: str) -> None:
        from onnx import TensorProto

        self._where = where
        self.nodes = list(model.graph.node)
        self._maker = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        for output in model.graph.output:
            self.readers.setdefault(output.name, [])
        names = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.INT64: "int64"}
        names |= dict.fromkeys((TensorProto.UINT8, TensorProto.INT8), "int8") | {TensorProto.BFLOAT16: "bf16"}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._kinds: dict[str, str] = {}
        for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
            tensor = value.type.tensor_type
            self._kinds[value.name] = names.get(tensor.elem_type, "other")
            if all(size.HasField("dim_value") for size in tensor.shape.dim) and tensor.HasField("shape"):
                self._shapes[value.name] = tuple(size.dim_value for size in tensor.shape.dim)
        for constant in model.graph.initializer:
            self._shapes[constant.name] = tuple(constant.dims)
            self._kinds[constant.name] = names.get(constant.data_type, "other")
        ends = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
        constants = {constant.name: constant.data_type for constant in model.graph.initializer}
        self._least = ends | constants

    @property
    def least_bytes(self) -> int:
        """Bytes of the inputs, constants and outputs, as they are stored."""
        from onnx import helper

        return sum(
            self.size(name) * helper.tensor_dtype_to_np_dtype(dtype).itemsize for name, dtype in self._least.items()
        )

    def size(self, name: str) -> int:
        """How many values a tensor has."""
        return math.prod(self.shape(name))

    def kind(self, name: str) -> str:
        """Type of a tensor's values."""
        return self._kinds.get(name, "other")

    def multiply_adds(self, node: Any) -> int:
        """Of a product: values that come out, times the products that are summed for each."""
        inner = self.shape(node.input[1])
        if node.op_type == "Conv":
            return self.size(node.output[0]) * math.prod(inner[1:])
        if node.op_type == "Gemm":
            turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            return self.size(node.output[0]) * inner[1 if turned else 0]
        return self.size(node.output[0]) * inner[max(len(inner) - 2, 0)]

    def arithmetic(self, node: Any) -> str:
        """Integers where both operands come out of integers, else the type of what comes in."""
        operands = node.input[:2]
        makers = [self._maker.get(name) for name in operands]
        if all(maker is not None and maker.op_type == _FROM_INTEGERS for maker in makers):
            return "int8"
        return self._float(operands[0])

    def width_before(self, name: str) -> str:
        """In what precision a step reads a tensor: integers, where they are only widened right before it."""
        maker = self._maker.get(name)
        while maker is not None and maker.op_type == "Reshape":
            maker = self._maker.get(maker.input[0])
        return "int8" if maker is not None and maker.op_type == _FROM_INTEGERS else self._float(name)

    def width_after(self, name: str) -> str:
        """In what precision a step writes a tensor: integers, where it is made integers before the next step."""
        current = name
        while len(readers := self.readers.get(current, [])) == 1 and readers[0].op_type not in _STEPS:
            if readers[0].op_type == _TO_INTEGERS:
                return "int8"
            current = readers[0].output[0]
        return self._float(name)

    def _float(self, name: str) -> str:
        kind = self.kind(name)
        return kind if kind in WIDTHS else "fp32"

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of a tensor."""
        if name not in self._shapes:
            raise ArtifactError(f"{self._where}: its work cannot be counted: the shape of {name!r} cannot be told")
        return self._shapes[name]
