"""A graph in ONNX Runtime on a CUDA device: pixels go there by the conveyor, and batches that return are CUDA graphs.

ONNX Runtime has graphs of its own, one for each number that a run is given. A number stands for the shape and the
addresses of the run that was captured under it: input and outputs must lie there again, and no two threads may run. It
drops no graph, so that a bounded number of them is made. Its documentation has these rules under "Using CUDA Graphs".
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.batch_parts import LARGEST_PART, choose_part, limit_batch, split_exactly, split_into_powers
from engines.conveyor import Conveyor, Lanes, Run, count_bytes
from engines.cuda_graphs import LARGEST_CACHE, GraphKey
from engines.devices import parse_gpu
from engines.engine import BatchSlice, check_images, split_batch, to_graph_input
from engines.gpu_settings import PLAIN, GpuSettings
from engines.guarded_run import check_logits
from engines.memory import DeviceArray, Stream, load_runtime, select_device, view_device_array
from engines.ort import open_session, read_runnable_info, refuse_evidence
from engines.slots import Slot
from lfm_deploy.artifacts import InputForm
from lfm_deploy.contract import usual_side
from lfm_deploy.errors import ShapeError
from lfm_deploy.network.evidence import Evidence
from lfm_deploy.quantisation import Recipe

# ONNX Runtime returns when a run is done, so the next pictures are sent before it begins.
_LANES = Lanes(slots=3, behind=1)
_UNCAPTURED = -1


class GraphNumbers:
    """Numbers under which runs are captured, the second time that one of a shape and of these addresses comes.

    Args:
        largest: number of graphs that are made at most; runs beyond them are made call by call.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._numbers: dict[GraphKey, int] = {}
        self._seen: OrderedDict[GraphKey, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._numbers)

    def choose(self, key: GraphKey) -> int:
        """The number of a run; -1 for one that is made call by call."""
        if key not in self._numbers and key in self._seen and len(self._numbers) < self._largest:
            self._numbers[key] = len(self._numbers)
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > self._largest:
            self._seen.popitem(last=False)
        return self._numbers.get(key, _UNCAPTURED)


class OrtCudaEngine:
    """An ONNX file made by lfm-deploy, in ONNX Runtime on a GPU. See ``Engine`` for the attributes.

    Batches run as powers of two, the rest filled up: cuDNN's algorithms are searched anew for each shape. One thread at
    a time may use it.
    """

    runtime = "onnxruntime"

    def __init__(self, path: Path, *, device: str = "cuda", settings: GpuSettings = PLAIN) -> None:
        """Open a session on exactly the asked device.

        Args:
            path: the ONNX file.
            device: ``"cuda"`` or ``"cuda:N"``.
            settings: way to run it, one of ONNX Runtime's.

        Raises:
            ArtifactError: the file is damaged or not ours.
            ConfigError: the device is no CUDA device.
            CudaError: the GPU has too little memory.
            UnavailableError: ONNX Runtime or its CUDA provider is missing, fell back, or cannot capture the graph; or
                cuda-python is missing; or the graph is BF16.
        """
        info = read_runnable_info(path)
        self._index = parse_gpu(device)
        self.device = device
        self.precision = str(info.precision)
        self.contract, self.config = info.contract, info.config
        self._path, self._settings, self._form = path, settings, info.input
        self._outputs = ["logit", "evidence_values", "evidence_positions"] if info.evidence else ["logit"]
        self._largest = 1 << (settings.piece.bit_length() - 1)
        self.batch_range = (1, self._largest)
        for_tensorrt = info.quantisation is not None and info.quantisation.recipe is Recipe.TENSORRT
        self._session: Any = open_session(
            path,
            str(path),
            device=device,
            threads=1,
            spin=False,
            fuse_integers=not for_tensorrt,
            cuda_options=settings.provider_options,
        )
        self._numbers = GraphNumbers(LARGEST_CACHE) if settings.cuda_graph else None
        cuda = load_runtime()
        select_device(cuda, self._index)
        self._stream = Stream(cuda)
        room = 1
        if self.contract.size != "native":  # graphs point into the slots, which then never move
            side = usual_side(self.contract.size)
            room = min(self._largest, LARGEST_PART) * count_bytes((side, side, 3), self._form)
        self._conveyor = Conveyor(cuda, self._index, self._stream, _LANES, room=room, largest_batch=self._largest)

    @property
    def name(self) -> str:
        """Name in reports."""
        return f"onnxruntime {self.precision} {self.device}"

    def describe(self) -> str:
        """How it runs."""
        return str(self._settings)

    @property
    def captured_graphs(self) -> int:
        """How many CUDA graphs are held at present."""
        return 0 if self._numbers is None else len(self._numbers)

    def logits(self, images: NDArray[np.uint8] | Any) -> NDArray[np.float32]:
        """Logits of pictures; a logit above the contract's threshold is fake.

        Args:
            images: pictures, RGB, uint8 ``(N, H, W, 3)``: a NumPy array, or any array with
                ``__cuda_array_interface__``, which is not copied.

        Returns:
            float32 ``(N,)``, in the order of the pictures.

        Raises:
            CudaError: the GPU failed.
            MemoryError: the GPU has too little memory.
            RunFailedError: the graph fails when it runs, or cannot be captured.
            ShapeError: the pictures are not what the contract says.
        """
        if hasattr(images, "__cuda_array_interface__"):
            return self._logits_on_device(view_device_array(images))
        check_images(images.shape, str(images.dtype), self.contract, self.config, self._path.name)
        height, width = images.shape[1:3]
        parts = split_into_powers(len(images), min(self._largest, choose_part(len(images), (height, width))))
        picture = (height, width, 3) if self._form is InputForm.UINT8 else (3, height, width)
        logits = self._conveyor.judge(images, parts, self._make_run(picture), self._form)
        return check_logits(logits, len(images), str(self._path))

    def evidence(self, images: NDArray[np.uint8]) -> Evidence:
        """Logits with the selected values and their positions.

        Args:
            images: pictures, RGB, uint8 ``(N, H, W, 3)``; any number.

        Raises:
            ArtifactError: the graph was exported without evidence outputs.
            ShapeError: the pictures are not what the contract says.
        """
        refuse_evidence(self._path, self._outputs)
        check_images(images.shape, str(images.dtype), self.contract, self.config, self._path.name)
        pixels = to_graph_input(images, self._form)
        found = [
            self._session.run(
                self._outputs, {"image": pixels[part.start : part.start + part.count]}, self._options(_UNCAPTURED)
            )
            for part in split_batch(len(images), 1, self._largest)
        ]
        logits, values, positions = (np.concatenate(column) for column in zip(*found, strict=True))
        return Evidence(logits=check_logits(logits, len(images), str(self._path)), values=values, positions=positions)

    def close(self) -> None:
        """Drop the session and free the memory."""
        self._conveyor.close()
        self._stream.close()
        del self._session

    def _logits_on_device(self, array: DeviceArray) -> NDArray[np.float32]:
        if self._form is not InputForm.UINT8:
            raise ShapeError(
                f"{self._path.name}: takes pictures on a GPU as normalised float32 in TensorRT alone; give it uint8 "
                "pictures in host memory, or export without --input float"
            )
        check_images(array.shape, array.dtype, self.contract, self.config, self._path.name)
        size = (array.shape[1], array.shape[2])
        parts = split_exactly(array.shape[0], limit_batch(self._largest, size))
        return self._conveyor.judge_there(array, parts, self._make_run((*size, 3)))

    def _make_run(self, picture: tuple[int, ...]) -> Run:
        """What runs a part of pictures of a shape."""
        kind = np.uint8 if self._form is InputForm.UINT8 else np.float32

        def run(slot: Slot, part: BatchSlice, address: int) -> None:
            self._stream.synchronize()  # until the pixels are there: ONNX Runtime works on a stream of its own
            shape = (part.run_as, *picture)
            binding = self._session.io_binding()
            binding.bind_input("image", "cuda", self._index, kind, shape, address)
            binding.bind_output("logit", "cuda", self._index, np.float32, (part.run_as,), slot.logit.address)
            number = _UNCAPTURED
            if self._numbers is not None:
                number = self._numbers.choose(GraphKey(shape, address, slot.logit.address))
            self._session.run_with_iobinding(binding, self._options(number))
            binding.synchronize_outputs()

        return run

    def _options(self, number: int) -> Any:
        """Options of a run that is captured, or replayed, under a number; None where nothing ever is."""
        if self._numbers is None:
            return None
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(number))
        return options
