"""A plan on one GPU: its weights, memory for its activations, and its work as CUDA graphs where they can be captured.

TensorRT asks for one execution context for each captured graph: a graph depends on the state of its context, and a
context that takes another shape changes that state. All contexts share the memory for activations, since their work
is queued on one stream.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.cuda_graphs import LARGEST_CACHE, CapturedGraph, CaptureError, GraphCache, GraphKey, capture_graph
from engines.device_plan import check_memory, evidence_bytes, plan_memory
from engines.gpus import Gpu
from engines.library import Library
from engines.memory import CudaError, DeviceBuffer, Stream, free_memory
from lfm_deploy.artifacts import build_command
from lfm_deploy.engine_info import EngineInfo
from lfm_deploy.errors import ArtifactError, ShapeError
from lfm_deploy.interrupts import hold_interrupts

if TYPE_CHECKING:
    import tensorrt as trt  # for types alone: the library in use is the one that built the plan

_log = logging.getLogger("lfm_deploy")


class Runner:
    """One plan, ready on the calling thread's GPU.

    Attributes:
        memory: memory that the engine takes of the GPU at its largest batch.
        why_no_graphs: reason why work is not captured into CUDA graphs; None while it is.
    """

    def __init__(
        self, path: Path, info: EngineInfo, library: Library, cuda: Any, gpu: Gpu, *, cuda_graphs: bool
    ) -> None:
        """Load a plan, after checking that it will fit.

        Args:
            path: the ``.engine`` file, whole and of this library's version.
            info: contents of the engine's sidecar.
            library: library that built the engine.
            cuda: cuda-python's runtime module, from ``load_runtime``.
            gpu: GPU to run on; the calling thread has selected it.
            cuda_graphs: whether work that runs more than once is captured into CUDA graphs.

        Raises:
            ArtifactError: the library cannot load the engine.
            UnavailableError: the GPU has too little free memory.
        """
        self._path = path
        self._info = info
        self._library = library
        self._cuda = cuda
        check_memory(path, info, plan_memory(info), gpu, *free_memory(cuda))
        self._engine = _deserialise(path, info, library)
        # The weights are in place now, and the library says itself what the activations take.
        activations = self._engine.device_memory_size_v2
        rest = plan_memory(info, activations=activations, weights=0)
        check_memory(path, info, rest, gpu, *free_memory(cuda))
        self.memory = plan_memory(info, activations=activations)
        self._settings = _make_settings(self._engine, info, library)
        self.stream = Stream(cuda)
        self._activations = DeviceBuffer(cuda, activations)
        self._evidence = {name: DeviceBuffer(cuda, nbytes) for name, nbytes in evidence_bytes(info).items()}
        self._context = self._make_context()
        self._graphs: GraphCache[CapturedGraph] = GraphCache(LARGEST_CACHE, self._discard)
        self.why_no_graphs: str | None = None if cuda_graphs else "they were not asked for"
        if cuda_graphs and library.is_rtx and info.sides is not None:
            self.why_no_graphs = "tensorrt-rtx exchanges its kernels as it runs where pictures keep their sizes"

    @property
    def graphs(self) -> int:
        """How many captured graphs are held."""
        return len(self._graphs)

    def run(self, key: GraphKey) -> None:
        """Queue one run on ``stream``: as a captured graph, or call by call.

        Raises:
            ShapeError: the plan does not take this shape.
            CudaError: the library refused to run the engine.
        """
        graph = self._graphs.find(key)
        if graph is not None:
            graph.launch(self.stream)
        elif self.why_no_graphs is None and self._graphs.is_due(key):
            self._run_and_capture(key)
        else:
            self._run(self._context, key)

    def forget(self, buffer: DeviceBuffer) -> None:
        """Drop the graphs that point into memory which is about to be freed."""
        self._graphs.drop_pointing_into(buffer.address, buffer.nbytes)

    def close(self) -> None:
        """Free the GPU memory; nothing may be running."""
        self._graphs.clear()
        del self._context
        for buffer in (self._activations, *self._evidence.values()):
            buffer.close()
        self.stream.close()
        del self._settings, self._engine

    def _run(self, context: "trt.IExecutionContext", key: GraphKey) -> None:
        if not context.set_input_shape("image", list(key.shape)):
            raise ShapeError(f"{self._path.name}: this engine does not take {key.shape}; build with a wider profile")
        self._place(context, "image", key.image_address)
        self._place(context, "logit", key.logit_address)
        with hold_interrupts():
            queued = context.execute_async_v3(self.stream.handle)
        if not queued:
            raise CudaError(
                f"{self._path}: the engine did not run: {_last_error(self._library)}; look at the GPU's log with dmesg"
            )

    def _place(self, context: "trt.IExecutionContext", tensor: str, address: int) -> None:
        """Say where a tensor lies; one that the library refused would stay where it was, and so would its values."""
        if not context.set_tensor_address(tensor, address):
            raise CudaError(
                f"{self._path}: the library does not take {tensor} at {address:#x}: {_last_error(self._library)}; "
                f"run '{build_command(self._info.precision, self._info.gpu)}' again"
            )

    def _run_and_capture(self, key: GraphKey) -> None:
        """Run in a context of its own, and capture the same once more for the next time.

        The first run in a context does what is never captured: it settles the shape and loads kernels.
        """
        context = self._make_context()
        self._run(context, key)
        self.stream.synchronize()
        try:
            if self._library.is_rtx and not context.is_stream_capturable(self.stream.handle):  # type: ignore[attr-defined]  # of tensorrt-rtx alone
                raise CaptureError(
                    "tensorrt-rtx calls this engine not capturable; "
                    f"run '{build_command(self._info.precision, self._info.gpu)}' again"
                )
            with hold_interrupts():
                graph = capture_graph(
                    self._cuda, self.stream, lambda: context.execute_async_v3(self.stream.handle), context
                )
        except CaptureError as error:
            self.why_no_graphs = str(error)
            self._graphs.clear()
            _log.warning("%s: runs without CUDA graphs: %s", self._path, error)
            return
        self._graphs.put(key, graph)

    def _discard(self, graph: CapturedGraph) -> None:
        self.stream.synchronize()
        graph.close()

    def _make_context(self) -> "trt.IExecutionContext":
        """A context that uses the shared memory for activations."""
        with hold_interrupts():
            context = self._engine.create_execution_context(self._settings)
        if context is None:
            raise CudaError(f"{self._path}: no execution context: {_last_error(self._library)}")
        context.set_device_memory(self._activations.address, self._activations.nbytes)
        for name, buffer in self._evidence.items():
            # Scoring does not read them, but an output must have a place.
            self._place(context, name, buffer.address)
        return context


def _make_settings(engine: "trt.ICudaEngine", info: EngineInfo, library: Library) -> Any:
    """How contexts are made: with memory that we give them, and with kernels that stay what they are.

    tensorrt-rtx compiles kernels for the shapes that it meets. By default it does so in the background and exchanges
    them between two runs, which a captured graph would not notice. With one picture size there are few shapes, so
    each waits for its kernels; contexts share them through a cache. With native sizes there is no end of shapes, and
    the default stays.
    """
    api: Any = library.module
    ours = api.ExecutionContextAllocationStrategy.USER_MANAGED
    if not library.is_rtx:
        return ours
    settings: Any = engine.create_runtime_config()
    settings.set_execution_context_allocation_strategy(ours)
    if info.sides is None:
        strategies = api.DynamicShapesKernelSpecializationStrategy
        settings.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
    settings.set_runtime_cache(settings.create_runtime_cache())
    return settings


def _deserialise(path: Path, info: EngineInfo, library: Library) -> "trt.ICudaEngine":
    api: Any = library.module
    library.sink.lines.clear()
    with hold_interrupts():  # its logger is Python code that C++ calls
        runtime: trt.Runtime = api.Runtime(library.logger)
        if info.version_compatible:
            # Such a plan brings a lean runtime of its own: code, which is run only where the sidecar says that it is
            # there and that the plan is whole.
            runtime.engine_host_code_allowed = True
        engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise ArtifactError(
            f"{path}: {library.name} {library.version} cannot load it: {_last_error(library)}; "
            f"run '{build_command(info.precision, info.gpu)}' again"
        )
    return engine


def _last_error(library: Library) -> str:
    errors = [line.text for line in library.sink.lines if "ERROR" in line.severity]
    return errors[-1] if errors else "it gave no reason"
