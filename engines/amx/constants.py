"""Constants of a typed graph, each refused where it is not what its metadata promises."""

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.errors import ArtifactError


class Constants:
    """Constants of one graph, and the nodes that read them.

    Attributes:
        nodes: nodes in the graph's order.
        makers: node that makes each tensor.
        convolutions: convolutions by name, in the graph's order.
        quantisers: node that quantises each tensor, for those that are.
    """

    def __init__(self, path: Path, graph: Any) -> None:
        """Take a graph.

        Args:
            path: path of the graph's file, for messages.
            graph: the graph, an ``onnx.GraphProto``.
        """
        from onnx import numpy_helper

        self._path = path
        self._tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.nodes = list(graph.node)
        self.makers = {name: node for node in graph.node for name in node.output}
        self.convolutions = {node.name: node for node in graph.node if node.op_type == "Conv"}
        self.quantisers = {node.input[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a constant; ``()`` where there is none."""
        return self._tensors[name].shape if name in self._tensors else ()

    def find_source(self, name: str) -> str:
        """Name of the integers that become a tensor; its own where it is none that is made of integers.

        Args:
            name: name of a tensor.
        """
        maker = self.makers.get(name)
        return str(maker.input[0]) if maker is not None and maker.op_type == "DequantizeLinear" else name

    def expect_type(self, name: str, dtype: str) -> None:
        """Refuse the graph if a constant that was taken is of another type.

        Args:
            name: name of the constant.
            dtype: name of the dtype that it has to have, ``"int8"`` for instance.
        """
        if str(self._tensors[name].dtype) != dtype:
            self.refuse(f"{name} is {self._tensors[name].dtype}, not {dtype}")

    def take(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """A constant.

        Args:
            name: name of the constant.
            shape: shape that the architecture gives it.

        Returns:
            Array of that shape, float32 ``(C,)`` for instance, in the dtype that the graph gives it.

        Raises:
            ArtifactError: the constant is missing, of another shape, or holds NaN or Inf.
        """
        if name not in self._tensors or self._tensors[name].shape != shape:
            self.refuse(f"{name} is {self._tensors[name].shape if name in self._tensors else 'missing'}, not {shape}")
        values: NDArray[Any] = self._tensors[name]
        if not np.isfinite(values.astype(np.float32)).all():
            raise ArtifactError(f"{self._path}: {name} holds NaN or Inf; export it again from a sound checkpoint")
        return values

    def expect(self, name: str, value: Any) -> None:
        """Refuse the graph if a constant is not what the kernels reckon with.

        Args:
            name: name of the constant.
            value: number or array that it has to be.
        """
        if not np.array_equal(self.take(name, np.shape(value)).astype(np.float32), value):
            self.refuse(f"{name} is not what this version writes")

    def refuse(self, fault: str) -> NoReturn:
        """Refuse the graph.

        Args:
            fault: words for what is wrong with it.
        """
        raise ArtifactError(
            f"{self._path}: not the graph that its metadata says ({fault}); make it again with 'lfm-deploy build'"
        )
