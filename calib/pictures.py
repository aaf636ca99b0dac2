"""Calibration pictures as pixels on disk: read and checked once, then handed out again and again, a batch at a time."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray


def hash_pixels(image: NDArray[np.uint8]) -> str:
    """sha256 of a picture's pixels with its height and width, so that a transposed one differs."""
    return hashlib.sha256(f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


class PictureStore:
    """Pictures in a temporary file, so that memory does not grow with their number; a context manager."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="lfm-calibration-")  # noqa: SIM115  # closed by __exit__
        self._places: list[tuple[int, tuple[int, ...]]] = []

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self._places)

    def __enter__(self) -> Self:
        """Use it in a ``with`` statement."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Delete the pictures."""
        self._file.close()

    def add(self, image: NDArray[np.uint8]) -> None:
        """Keep one picture, uint8 ``(H, W, 3)``."""
        self._places.append((self._file.seek(0, 2), image.shape))
        self._file.write(np.ascontiguousarray(image).tobytes())

    def batches(self, indices: Sequence[int], size: int = 4) -> Iterator[NDArray[np.uint8]]:
        """Pictures of these indices in their order, uint8 ``(N, H, W, 3)``; a batch ends where the size changes."""
        held: list[NDArray[np.uint8]] = []
        for index in indices:
            image = self._read(index)
            if held and (len(held) == size or held[0].shape != image.shape):
                yield np.stack(held)
                held = []
            held.append(image)
        if held:
            yield np.stack(held)

    def _read(self, index: int) -> NDArray[np.uint8]:
        offset, shape = self._places[index]
        self._file.seek(offset)
        return np.frombuffer(self._file.read(int(np.prod(shape))), np.uint8).reshape(shape)
