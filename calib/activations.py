"""What a network's tensors do on pictures: read out of an ONNX graph in ONNX Runtime, batch by batch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray

from calib.histogram import ChannelHistogram, StreamingHistogram
from engines.ort import open_session

# Patches of each picture that second moments are taken over: 50 pictures give twenty times the widest layer's inputs.
_PATCHES = 400


class TensorStatistics:
    """What one tensor does on pictures.

    Attributes:
        histogram: counts of all its values.
        channel_lowest, channel_highest: least and largest value of each channel ``(C,)``.
        channels: counts of each channel's values, where it is asked for.
    """

    def __init__(self, channels: int, *, by_channel: bool = False) -> None:
        self.histogram = StreamingHistogram()
        self.channel_lowest: NDArray[np.float32] = np.full(channels, np.inf, np.float32)
        self.channel_highest: NDArray[np.float32] = np.full(channels, -np.inf, np.float32)
        self.channels = ChannelHistogram(channels) if by_channel else None

    def add(self, values: NDArray[np.floating]) -> None:
        """Count the values of one batch ``(N, C, H, W)``."""
        self.histogram.add(values)
        self.channel_lowest = np.minimum(self.channel_lowest, values.min(axis=(0, 2, 3)))
        self.channel_highest = np.maximum(self.channel_highest, values.max(axis=(0, 2, 3)))
        if self.channels is not None:
            self.channels.add(values)

    @classmethod
    def added(cls, parts: "Sequence[TensorStatistics]") -> Self:
        """What the tensor does on the pictures of several."""
        total = cls(len(parts[0].channel_highest))
        total.histogram = StreamingHistogram.added([part.histogram for part in parts])
        total.channel_lowest = np.min([part.channel_lowest for part in parts], axis=0)
        total.channel_highest = np.max([part.channel_highest for part in parts], axis=0)
        counted = [part.channels for part in parts if part.channels is not None]
        total.channels = ChannelHistogram.added(counted) if counted else None
        return total


class ActivationReader:
    """A graph that also gives inner tensors."""

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str]) -> None:
        """Open it in ONNX Runtime on the CPU.

        Args:
            model: a graph that takes raw pixels.
            tensors: names of the inner tensors to read.

        Raises:
            UnavailableError: ONNX Runtime is not installed.
        """
        self.tensors = tuple(tensors)
        # Without what lies behind the tensors: ONNX Runtime would compute it.
        tapped = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(model)).extract_model(["image"], [*tensors])
        self._session: Any = open_session(tapped.SerializeToString(), "the calibrated graph", spin=False)

    def read(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """The tensors of one batch of pictures, uint8 ``(N, H, W, 3)``, as float32."""
        found = self._session.run(list(self.tensors), {"image": images})
        return {name: values.astype(np.float32, copy=False) for name, values in zip(self.tensors, found, strict=True)}


Keep = Mapping[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]]
"""What an INT8 layer reads of a tensor's values ``(N, C, H, W)``, such as the values clipped to a range, by tensor."""


def collect_moments(
    reader: ActivationReader,
    folds: Iterable[tuple[int, NDArray[np.uint8]]],
    taps: dict[str, int],
    keep: Sequence[Keep],
    seed: int,
) -> list[dict[str, NDArray[np.float64]]]:
    """Mean of x x^T over input patches x of convolutions, with all pictures and without those of each fold.

    Args:
        reader: graph that gives the inputs of the convolutions.
        folds: batches of pictures, uint8 ``(N, H, W, 3)``, each with the number of its fold.
        taps: side of the kernel that reads each tensor, in values, by the tensor's name.
        keep: functions that give what is read of a tensor, for all pictures and then for those without each fold.
        seed: seed of the random patches.

    Returns:
        As many as ``keep``: by tensor, float64 ``(K, K)`` with K = channels x taps x taps, in the order of a
        convolution's weight.
    """
    generator = np.random.default_rng(seed)
    sums: list[dict[str, NDArray[np.float64]]] = [{} for _ in keep]
    counts = [0] * len(keep)
    for fold, images in folds:
        drawn = {name: _draw_patches(values, taps[name], generator) for name, values in reader.read(images).items()}
        for number, (total, functions) in enumerate(zip(sums, keep, strict=True)):
            if number == fold + 1:
                continue
            counts[number] += len(images) * _PATCHES
            for name, patches in drawn.items():
                kept = functions[name](patches).reshape(len(patches), -1).astype(np.float64)
                total[name] = total.get(name, 0.0) + kept.T @ kept
    return [{name: value / count for name, value in total.items()} for total, count in zip(sums, counts, strict=True)]


def _draw_patches(values: NDArray[np.float32], side: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Random patches ``(N * _PATCHES, C, side, side)`` of a tensor ``(N, C, H, W)``."""
    count, channels, height, width = values.shape
    rows = generator.integers(0, height - side + 1, (count, _PATCHES))
    columns = generator.integers(0, width - side + 1, (count, _PATCHES))
    picture = np.arange(count)[:, None]
    parts = [values[picture, :, rows + top, columns + left] for top in range(side) for left in range(side)]
    return np.stack(parts, axis=-1).reshape(count * _PATCHES, channels, side, side)
