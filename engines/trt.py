"""TensorRT engines on a GPU, of ``tensorrt`` and of ``tensorrt-rtx``.

Everything that can be refused without touching the GPU is refused first: a plan that its sidecar does not
describe, a library of another version, a GPU that the plan was not built for.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.batch_parts import choose_part
from engines.conveyor import Conveyor, Run, count_bytes
from engines.cuda_graphs import GraphKey
from engines.device_plan import LANES, image_shape
from engines.engine import BatchSlice, PhaseTimes, check_images, split_batch
from engines.gpus import Gpu, find_gpu
from engines.library import Library, load_runtime_for, parse_version
from engines.memory import DeviceArray, load_runtime, select_device, view_device_array
from engines.runner import Runner
from engines.slots import Slot
from lfm_deploy.artifacts import InputForm, build_command
from lfm_deploy.engine_info import EngineInfo, read_engine_info
from lfm_deploy.errors import ArtifactError, OtherGpuError, ShapeError


def check_version(path: Path, info: EngineInfo, library: Library) -> None:
    """Refuse a plan of another version of its library; this needs no GPU.

    A version-compatible plan loads in the version that built it, and in every newer one.

    Raises:
        ArtifactError: the engine was built by another version of the library, or by a newer one where it is
            version-compatible; the message has the remedy.
    """
    built, here = (parse_version(version) for version in (info.library_version, library.version))
    if built == here or (info.version_compatible and built < here):
        return
    rule = (
        "version-compatible plans load in the version that built them and in newer ones"
        if info.version_compatible
        else "plans load only in the version that built them"
    )
    raise ArtifactError(
        f"{path}: stale: built with {info.runtime} {info.library_version}, this machine has {library.name} "
        f"{library.version}, and {rule}; run '{build_command(info.precision, info.gpu)}'"
    )


def check_gpu(path: Path, info: EngineInfo, gpu: Gpu) -> None:
    """Refuse a plan that was built for another GPU.

    Raises:
        OtherGpuError: the engine was built for another GPU; the message has the remedy.
    """
    if info.gpu != gpu.sm:
        raise OtherGpuError(
            f"{path}: built for {info.gpu}, but {gpu.name} is {gpu.sm}; run '{build_command(info.precision, gpu.sm)}'"
        )


class TensorRTEngine:
    """A plan with its sidecar, ready on one GPU. See ``Engine`` for the attributes.

    Pictures in host memory go through pinned memory in parts, so that copies overlap with compute; work that returns is
    captured into CUDA graphs, one for each batch size and slot. One thread at a time may use it.
    """

    def __init__(self, path: Path, *, device: int = 0, cuda_graphs: bool = True) -> None:
        """Load a plan.

        Args:
            path: the ``.engine`` file; its sidecar stands beside it.
            device: CUDA's index of the GPU.
            cuda_graphs: whether work that runs more than once is captured into CUDA graphs; False runs everything call
                by call.

        Raises:
            ArtifactError: engine or sidecar is damaged or foreign.
            UnavailableError: there is no driver, no GPU or too little free memory, or the library is not installed.
        """
        info = read_engine_info(path)
        library = load_runtime_for(info)
        check_version(path, info, library)
        gpu = find_gpu(device)
        check_gpu(path, info, gpu)
        self.info = info
        self.runtime = info.runtime
        self.precision = str(info.precision)
        self.device = f"cuda:{device}"
        self.batch_range = (info.batch[0], info.batch[2])
        self.contract = info.contract
        self.config = info.config
        self._path = path
        self._index = device
        self._cuda = load_runtime()
        select_device(self._cuda, device)
        self._runner = Runner(path, info, library, self._cuda, gpu, cuda_graphs=cuda_graphs)
        self.memory = self._runner.memory  # what it takes of the GPU at its largest batch
        _, *picture = image_shape(info, 1)
        self._conveyor = Conveyor(
            self._cuda,
            device,
            self._runner.stream,
            LANES,
            room=info.batch[0] * count_bytes(tuple(picture), info.input),
            largest_batch=info.batch[2],
            on_free=self._runner.forget,
        )

    @property
    def name(self) -> str:
        """Name in reports."""
        return f"{self.runtime} {self.precision} {self.info.gpu}"

    @property
    def uses_cuda_graphs(self) -> bool:
        """Whether work that returns is captured; if not, ``why_no_cuda_graphs`` has the reason."""
        return self._runner.why_no_graphs is None

    @property
    def why_no_cuda_graphs(self) -> str | None:
        """Why nothing is captured; None where it is. A failure is noticed at the first capture."""
        return self._runner.why_no_graphs

    @property
    def captured_graphs(self) -> int:
        """How many CUDA graphs are held at present."""
        return self._runner.graphs

    def logits(self, images: NDArray[np.uint8] | Any) -> NDArray[np.float32]:
        """Logits of pictures; a logit above the contract's threshold is fake.

        Args:
            images: pictures, uint8 ``(N, H, W, 3)``: a NumPy array, or any array with ``__cuda_array_interface__``,
                which is not copied. A graph made with ``--input float`` takes the latter as normalised float32
                ``(N, 3, H, W)``.

        Returns:
            float32 ``(N,)``, in the order of the pictures.

        Raises:
            ShapeError: the pictures are not what the contract says.
            CudaError: the GPU failed.
        """
        if hasattr(images, "__cuda_array_interface__"):
            return self._logits_on_device(view_device_array(images))
        self._check(images)
        smallest, largest = self.batch_range
        part = max(smallest, min(largest, choose_part(len(images), images.shape[1:3])))
        parts = split_batch(len(images), smallest, part)
        return self._conveyor.judge(images, parts, self._make_run(self._picture(images)), self.info.input)

    def time_phases(self, images: NDArray[np.uint8]) -> PhaseTimes:
        """Run pictures uint8 ``(N, H, W, 3)`` that fit one run, once, with an event between the phases.

        The first two runs of a batch size warm up and capture: call ``logits`` with it first, three times.

        Args:
            images: pictures, RGB, uint8 ``(N, H, W, 3)``; N must fit one run.

        Raises:
            ShapeError: there are more pictures than the largest batch, or they are not what the contract says.
            CudaError: the GPU failed.
        """
        self._check(images)
        parts = split_batch(len(images), *self.batch_range)
        if len(parts) > 1:
            raise ShapeError(
                f"{self._path.name}: {len(images)} pictures do not run in one go, expected at most "
                f"{self.batch_range[1]}; time a smaller batch"
            )
        return self._conveyor.time_phases(images, parts[0], self._make_run(self._picture(images)), self.info.input)

    def close(self) -> None:
        """Free the GPU memory that this engine holds."""
        self._conveyor.close()
        self._runner.close()

    def _logits_on_device(self, array: DeviceArray) -> NDArray[np.float32]:
        self._check_device_array(array)
        parts = split_batch(array.shape[0], *self.batch_range)
        return self._conveyor.judge_there(array, parts, self._make_run(array.shape[1:]))

    def _check_device_array(self, array: DeviceArray) -> None:
        if self.info.input is InputForm.UINT8:
            check_images(array.shape, array.dtype, self.contract, self.config, self._path.name)
            self._check_sides(array.shape[1:3])
        else:
            if array.dtype != "float32" or len(array.shape) != 4 or array.shape[1] != 3:
                raise ShapeError(
                    f"{self._path.name}: the GPU array is {array.dtype} {array.shape}, expected normalised "
                    "float32 (N, 3, H, W)"
                )
            self._check_sides(array.shape[2:4])
        if array.shape[0] < self.batch_range[0]:
            raise ShapeError(
                f"{self._path.name}: {array.shape[0]} pictures on the GPU, this engine runs at least "
                f"{self.batch_range[0]} at a time; build with --batch 1,OPT,MAX"
            )

    def _check(self, images: NDArray[np.uint8]) -> None:
        check_images(images.shape, str(images.dtype), self.contract, self.config, self._path.name)
        self._check_sides(images.shape[1:3])

    def _picture(self, images: NDArray[np.uint8]) -> tuple[int, ...]:
        """Shape of one picture as the graph takes it."""
        height, width = images.shape[1:3]
        return (height, width, 3) if self.info.input is InputForm.UINT8 else (3, height, width)

    def _make_run(self, picture: tuple[int, ...]) -> Run:
        """What queues a part of pictures of a shape."""

        def run(slot: Slot, part: BatchSlice, address: int) -> None:
            self._runner.run(GraphKey((part.run_as, *picture), address, slot.logit.address))

        return run

    def _check_sides(self, size: tuple[int, ...]) -> None:
        if self.info.sides is not None and max(size) > self.info.sides[2]:
            raise ShapeError(
                f"{self._path.name}: pictures are {size[1]}x{size[0]}, this engine takes sides up to "
                f"{self.info.sides[2]}; build with --max-side {max(size)}"
            )
