"""What every runtime offers: uint8 pictures in, logits out, and a statement of what it is."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.artifacts import InputForm
from lfm_deploy.config import IMAGENET_MEAN, IMAGENET_STD, ModelConfig
from lfm_deploy.contract import Contract
from lfm_deploy.errors import ShapeError


class Engine(Protocol):
    """A detector that is ready to judge pictures.

    Attributes:
        name: name in reports, short and unique there, such as ``"onnxruntime fp16"``.
        runtime: ``"pytorch"``, ``"onnxruntime"``, ``"openvino"``, ``"fused"``, ``"amx"``, ``"tensorrt"`` or
            ``"tensorrt-rtx"``.
        precision: ``"fp32"``, ``"fp16"``, ``"bf16"`` or ``"int8"``.
        device: ``"cpu"`` or ``"cuda:0"``.
        batch_range: smallest and largest batch that runs in one go; ``logits`` splits and takes any number.
        contract: contract that says which pictures the engine takes and what its logit means.
        config: architecture of the network.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def runtime(self) -> str: ...  # noqa: D102
    @property
    def precision(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def batch_range(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def contract(self) -> Contract: ...  # noqa: D102
    @property
    def config(self) -> ModelConfig: ...  # noqa: D102

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits of pictures; a logit above the contract's threshold is fake.

        Args:
            images: pictures, RGB, uint8 ``(N, H, W, 3)``; N may exceed the largest batch.

        Returns:
            float32 ``(N,)``, in the order of the pictures.

        Raises:
            ShapeError: the pictures are not what the contract says.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds; it cannot be used afterwards."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseTimes:
    """Where the time of one batch went on a GPU, in milliseconds.

    Attributes:
        host_to_device_ms, compute_ms, device_to_host_ms: milliseconds of each phase, by CUDA events, one after the
            other, nothing overlapped.
        enqueue_ms: milliseconds that the host takes to hand the work to the GPU; above the compute time, launching is
            the limit.
    """

    host_to_device_ms: float
    compute_ms: float
    device_to_host_ms: float
    enqueue_ms: float


@runtime_checkable
class PhasedEngine(Protocol):
    """An engine that can say where its time goes: copies apart from compute."""

    def time_phases(self, images: NDArray[np.uint8]) -> PhaseTimes:
        """Run pictures once, with an event between the phases.

        Args:
            images: pictures, RGB, uint8 ``(N, H, W, 3)``; N must fit one run.

        Raises:
            ShapeError: there are more pictures than the largest batch.
        """
        ...


@dataclass(frozen=True, slots=True)
class BatchSlice:
    """Part of a batch that runs in one go: pictures ``start`` to ``start + count``, run as ``run_as``.

    ``run_as`` is larger than ``count`` only where a runtime cannot run fewer; the logits of the filling never
    leave the engine.

    Attributes:
        start: index in the batch of the first picture.
        count: number of pictures.
        run_as: number of pictures that the runtime is given; larger than ``count`` only where it cannot run fewer.
    """

    start: int
    count: int
    run_as: int


def split_batch(pictures: int, smallest: int, largest: int) -> list[BatchSlice]:
    """Split any number of pictures into runs that a runtime's batch range allows.

    Parts are as equal as they can be, so that none is below the smallest batch while the whole is not.

    Args:
        pictures: number of pictures, at least 1.
        smallest: smallest batch that the runtime takes.
        largest: largest batch that the runtime takes.
    """
    parts = -(-pictures // largest)
    bounds = [pictures * part // parts for part in range(parts + 1)]
    return [BatchSlice(start, stop - start, max(stop - start, smallest)) for start, stop in itertools.pairwise(bounds)]


def fill_batch(images: NDArray[np.uint8], part: BatchSlice) -> NDArray[np.uint8]:
    """The pictures of one part, filled up with copies of its last one where the runtime needs more.

    Args:
        images: pictures of the whole batch, uint8 ``(N, H, W, 3)``.
        part: part of the batch that runs next.

    Returns:
        uint8 ``(part.run_as, H, W, 3)``.
    """
    chosen = images[part.start : part.start + part.count]
    if part.run_as == part.count:
        return chosen
    return np.concatenate([chosen, np.repeat(chosen[-1:], part.run_as - part.count, axis=0)])


def check_images(shape: Sequence[int], dtype: str, contract: Contract, config: ModelConfig, where: str) -> None:
    """Refuse pictures that an engine was not made for.

    Args:
        shape: shape of the pictures.
        dtype: name of their dtype, such as ``"uint8"``.
        contract: contract of the engine.
        config: architecture of the network, for the smallest native size.
        where: name of the engine, for the message.

    Raises:
        ShapeError: the pictures are not uint8 ``(N, H, W, 3)``, or not of the size that the contract names, or at
            native size odd or too small.
    """
    side = contract.size
    wanted = "(N, H, W, 3) with even H and W" if side == "native" else f"(N, {side}, {side}, 3)"
    if dtype != "uint8" or len(shape) != 4 or shape[3] != 3:
        raise ShapeError(
            f"{where}: pictures are {dtype} {tuple(shape)}, expected uint8 {wanted}, RGB; "
            "read them with lfm_deploy.read_image"
        )
    if shape[0] == 0:
        raise ShapeError(f"{where}: got an empty batch, expected at least one picture")
    height, width = shape[1:3]
    if side != "native":
        if (height, width) != (side, side):
            raise ShapeError(f"{where}: pictures are {width}x{height}, expected {side}x{side}; resize them")
        return
    rows, columns = config.map_size(height, width)
    if height % 2 or width % 2 or rows * columns < config.positions:
        raise ShapeError(
            f"{where}: pictures are {width}x{height}, expected even sides of at least {config.min_square} pixels"
        )


def normalise_pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """ToTensor and ImageNet normalisation in NumPy: uint8 ``(N, H, W, 3)`` -> float32 ``(N, 3, H, W)``.

    For graphs exported with ``--input float``.

    Args:
        images: pictures, RGB, uint8 ``(N, H, W, 3)``.

    Returns:
        float32 ``(N, 3, H, W)``.
    """
    mean = np.array(IMAGENET_MEAN, dtype=np.float32)
    std = np.array(IMAGENET_STD, dtype=np.float32)
    scaled = (images.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def to_graph_input(images: NDArray[np.uint8], form: InputForm) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Pictures in the form that a graph takes.

    Args:
        images: pictures, RGB, uint8 ``(N, H, W, 3)``.
        form: form of the graph's input.

    Returns:
        uint8 ``(N, H, W, 3)``, the same array, or float32 ``(N, 3, H, W)``.
    """
    return images if form is InputForm.UINT8 else normalise_pixels(images)
