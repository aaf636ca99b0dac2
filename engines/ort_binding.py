"""Input and outputs of an ONNX Runtime session bound to memory, so that a run on a GPU copies each of them once.

Without it, ONNX Runtime allocates anew in each run, and copies pictures from memory that the GPU cannot read by itself.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.devices import parse_device
from engines.memory import PinnedBuffer, load_runtime, select_device

# The parts of a split batch differ by one picture at most.
_LARGEST_SHAPES = 2


class BoundSession:
    """A session whose input ``image`` has a place on its device, filled from pinned memory. One thread at a time."""

    def __init__(self, session: Any, device: str) -> None:
        """Bind nothing yet.

        Args:
            session: session of ONNX Runtime, an ``onnxruntime.InferenceSession``.
            device: device of the session: ``"cuda"`` or ``"cuda:N"``; ``"cpu"`` works too, and gains nothing.

        Raises:
            UnavailableError: cuda-python is not installed.
        """
        self._session = session
        self._kind, self._index = parse_device(device)
        self._cuda = load_runtime() if self._kind == "cuda" else None
        self._pinned: PinnedBuffer | None = None
        self._values: dict[tuple[tuple[int, ...], str], Any] = {}

    def run(self, outputs: list[str], pixels: NDArray[Any]) -> list[NDArray[Any]]:
        """Outputs of the graph for one input.

        Args:
            outputs: names of the outputs that are wanted.
            pixels: input of the graph: uint8 ``(N, H, W, 3)``, or float32 ``(N, 3, H, W)`` for a graph made with
                ``--input float``.

        Returns:
            Arrays in the order of ``outputs``, each float32 or int32 ``(N, ...)``.

        Raises:
            CudaError: there is no memory left to pin.
        """
        value = self._place(pixels)
        value.update_inplace(self._pin(pixels))
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("image", value)
        for name in outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        return [found.numpy() for found in binding.get_outputs()]

    def close(self) -> None:
        """Free the memory."""
        self._values.clear()
        if self._pinned is not None:
            self._pinned.close()
            self._pinned = None

    def _place(self, pixels: NDArray[Any]) -> Any:
        """Memory on the device for an input of this shape, kept for the next one."""
        import onnxruntime

        key = (pixels.shape, pixels.dtype.name)
        if key not in self._values:
            if len(self._values) == _LARGEST_SHAPES:
                del self._values[next(iter(self._values))]
            self._values[key] = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                list(pixels.shape), pixels.dtype.type, self._kind, self._index
            )
        return self._values[key]

    def _pin(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The pixels in pinned memory, whose last content has been copied: a run ends after its copies."""
        if self._cuda is None:
            return pixels
        if self._pinned is None or self._pinned.array.size < pixels.nbytes:
            if self._pinned is not None:
                self._pinned.close()
                self._pinned = None
            select_device(self._cuda, self._index)
            self._pinned = PinnedBuffer(self._cuda, pixels.nbytes, np.dtype(np.uint8))
        pinned = self._pinned.array[: pixels.nbytes].view(pixels.dtype).reshape(pixels.shape)
        np.copyto(pinned, pixels)
        return pinned
