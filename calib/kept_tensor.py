"""A tensor of each calibration picture, computed once from the one before it and kept on disk as far as it goes."""

import tempfile
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray

from calib.pictures import PictureStore
from engines.ort import open_session

# All of the published network's at 256x256 with 128 pictures; of more, the rest is computed each time.
_MOST_BYTES = 2**30


class KeptTensor:
    """One tensor by picture, which many ways of quantising it read again and again."""

    def __init__(
        self,
        base: onnx.ModelProto,
        name: str,
        source: "PictureStore | KeptTensor",
        *,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        """Take a part of a graph; nothing is computed yet.

        Args:
            base: float32 graph with inferred shapes.
            name: name of the tensor.
            source: pictures, or a tensor of them that alone this one is computed from.
            most_bytes: limit on what lies on disk.

        Raises:
            UnavailableError: ONNX Runtime is not installed.
        """
        self.name = name
        self._source = source
        self._input = "image" if isinstance(source, PictureStore) else source.name
        part = onnx.utils.Extractor(base).extract_model([self._input], [name])
        self._session: Any = open_session(part.SerializeToString(), "the calibrated graph", spin=False)
        self._places: dict[int, tuple[int, tuple[int, ...]]] = {}
        # Unbuffered, so that what finds no room is told by the write itself; closed by close().
        self._file = tempfile.TemporaryFile(prefix="lfm-calibration-", buffering=0)  # noqa: SIM115
        self._free = most_bytes

    def read(self, index: int) -> NDArray[np.float32]:
        """The tensor of one picture, float32 ``(1, C, H, W)``.

        Args:
            index: position of the picture in the store.
        """
        if index in self._places:
            return self._load(*self._places[index])
        source = self._source
        given = next(source.batches([index])) if isinstance(source, PictureStore) else source.read(index)
        values: NDArray[np.float32] = self._session.run([self.name], {self._input: given})[0]
        if values.nbytes <= self._free:
            self._keep(index, values)
        return values

    def close(self) -> None:
        """Give the disk back; what is read after that is computed each time."""
        self._places.clear()
        self._free = 0
        self._file.close()

    def __enter__(self) -> Self:
        """Use it in a ``with`` statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the disk back."""
        self.close()

    def _keep(self, index: int, values: NDArray[np.float32]) -> None:
        """Write values down; where the disk is full, these and all that follow are computed again."""
        offset = self._file.seek(0, 2)
        try:
            written = self._file.write(np.ascontiguousarray(values).data)
        except OSError:
            written = 0
        if written < values.nbytes:
            self._free = 0
            return
        self._free -= values.nbytes
        self._places[index] = offset, values.shape

    def _load(self, offset: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        values = np.empty(shape, np.float32)
        self._file.seek(offset)
        self._file.readinto(values.data)
        return values
