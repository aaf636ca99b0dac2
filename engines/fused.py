"""Kernels of our own for a proved FP16 graph on an NVIDIA GPU: the fastest way to run it there."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.batch_parts import choose_part, limit_batch, split_into_powers
from engines.conveyor import Conveyor, Lanes, Run
from engines.devices import parse_device
from engines.engine import BatchSlice, PhaseTimes, check_images
from engines.fused_graph import read_weights
from engines.memory import DeviceArray, PinnedBuffer, load_runtime, select_device, view_device_array
from engines.slots import Slot
from lfm_deploy.errors import ConfigError, ShapeError, UnavailableError

_OLDEST = (8, 0)
# At 256x256 pixels; of larger pictures fewer run at once, so that as many pixels do.
_LARGEST_BATCH = 256
# Filling and copying take as long as computing: two parts are being filled, one is copied, and two are computed or wait
# for it.
_LANES = Lanes(slots=5, ahead=2)


def check_kernels(device: str) -> int:
    """Whether the kernels can run on a device; CUDA's index of it.

    Args:
        device: ``"cuda"`` or ``"cuda:N"``.

    Raises:
        ConfigError: the device is no CUDA device.
        UnavailableError: there is no such device, it is too old, or a library is missing.
    """
    kind, number = parse_device(device)
    if kind != "cuda":
        raise ConfigError(f"device is {device!r}, the fused kernels run on cuda or cuda:N")
    if importlib.util.find_spec("triton") is None:
        raise UnavailableError(
            "fused kernels: not run: the package triton is not installed; run 'pip install lfm-deploy[kernels]'"
        )
    import torch

    if not torch.cuda.is_available():
        why = "this PyTorch is for the CPU alone" if torch.version.cuda is None else "no CUDA device"
        raise UnavailableError(f"fused kernels on the GPU: not run: {why}; run the graph in ONNX Runtime on the CPU")
    if number >= torch.cuda.device_count():
        raise UnavailableError(f"no CUDA device {number}: this machine has {torch.cuda.device_count()}")
    capability = torch.cuda.get_device_capability(number)
    if capability < _OLDEST:
        name = torch.cuda.get_device_name(number)
        raise UnavailableError(
            f"fused kernels: not run: {name} has compute capability {capability[0]}.{capability[1]}, they need 8.0 or "
            "newer; run the graph in ONNX Runtime"
        )
    return number


class FusedEngine:
    """A typed FP16 graph by kernels of our own. See ``Engine`` for the attributes.

    Pictures in host memory go through pinned memory, which several threads fill while the GPU copies and computes; an
    array on the GPU is read where it lies. Batch sizes that return are CUDA graphs, one for each power of two; others
    run as the next larger one. One thread at a time may use it.
    """

    runtime = "fused"
    precision = "fp16"

    def __init__(self, path: Path, *, device: str = "cuda") -> None:
        """Read a graph and put it on a GPU.

        Args:
            path: an FP16 graph of SNet with Top-K pooling, raw pixels in and logits out.
            device: ``"cuda"`` or ``"cuda:N"``.

        Raises:
            ArtifactError: the graph is damaged, not ours, or holds NaN or Inf.
            UnavailableError: the kernels do not know its network, or cannot run on this machine.
            ConfigError: the device is no CUDA device.
        """
        weights = read_weights(path)
        self._index = check_kernels(device)
        self.device = f"cuda:{self._index}"
        self.contract, self.config = weights.info.contract, weights.info.config
        self.batch_range = (1, _LARGEST_BATCH)
        self._path = path
        self._cuda = load_runtime()
        select_device(self._cuda, self._index)
        from engines.fused_runner import FusedRunner

        same_size = self.contract.size != "native"
        self._runner = FusedRunner(weights, self.device, self._cuda, same_size=same_size)
        self._conveyor = Conveyor(
            self._cuda, self._index, self._runner.stream, _LANES, room=1, largest_batch=_LARGEST_BATCH
        )
        self._jobs = {slot: PinnedBuffer(self._cuda, 3, np.dtype(np.int64)) for slot in self._conveyor.slots}

    @property
    def name(self) -> str:
        """Name in reports."""
        return f"fused {self.precision} {self.device}"

    def describe(self) -> str:
        """How it runs."""
        own = sum(way != 0 for way in self._runner.network.ways)
        return (
            f"{own} of {len(self._runner.network.ways)} inner convolutions with their pooling in one kernel, "
            f"{self._runner.graphs} CUDA graphs, {self._conveyor.threads} copying threads"
        )

    def logits(self, images: NDArray[np.uint8] | Any) -> NDArray[np.float32]:
        """Logits float32 ``(N,)`` of uint8 ``(N, H, W, 3)``.

        Args:
            images: pictures, RGB, uint8 ``(N, H, W, 3)``; a NumPy array, or any array with
                ``__cuda_array_interface__``, which is not copied.

        Raises:
            ShapeError: the pictures are not what the contract says.
            UnavailableError: the GPU has too little memory.
            CudaError: the GPU failed.
        """
        if hasattr(images, "__cuda_array_interface__"):
            return self._logits_on_device(view_device_array(images))
        check_images(images.shape, str(images.dtype), self.contract, self.config, self._path.name)
        size = images.shape[1:3]
        parts = split_into_powers(len(images), choose_part(len(images), size))
        return self._conveyor.judge(images, parts, self._make_run(size))

    def time_phases(self, images: NDArray[np.uint8]) -> PhaseTimes:
        """Run pictures that fit one run, once, with an event between the phases.

        The first two runs of a batch size warm up and capture: call ``logits`` with it first, three times.

        Args:
            images: pictures, RGB, uint8 ``(N, H, W, 3)``; no more than run at once.

        Raises:
            ShapeError: there are more pictures than run at once, or they are not what the contract says.
            CudaError: the GPU failed.
        """
        check_images(images.shape, str(images.dtype), self.contract, self.config, self._path.name)
        size = images.shape[1:3]
        largest = limit_batch(_LARGEST_BATCH, size)
        if len(images) > largest:
            raise ShapeError(
                f"{self._path.name}: {len(images)} pictures do not run in one go, expected at most {largest}; "
                "time a smaller batch"
            )
        (part,) = split_into_powers(len(images), largest)
        return self._conveyor.time_phases(images, part, self._make_run(size))

    def close(self) -> None:
        """Free the GPU memory that this engine holds."""
        self._conveyor.close()
        for job in self._jobs.values():
            job.close()
        self._runner.close()

    def _logits_on_device(self, array: DeviceArray) -> NDArray[np.float32]:
        check_images(array.shape, array.dtype, self.contract, self.config, self._path.name)
        size = (array.shape[1], array.shape[2])
        parts = split_into_powers(array.shape[0], limit_batch(_LARGEST_BATCH, size))
        return self._conveyor.judge_there(array, parts, self._make_run(size))

    def _make_run(self, size: tuple[int, int]) -> Run:
        """What queues a part of pictures of a size; its job says how many there are, and no more are read."""

        def run(slot: Slot, part: BatchSlice, address: int) -> None:
            job = self._jobs[slot]
            job.array[:] = address, part.count, slot.logit.address
            self._runner.run(job, part.run_as, size)

        return run
