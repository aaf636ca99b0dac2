"""Plans and execution contexts on the simulated device: the calls of TensorRT that the engines use."""

import ctypes
import time
from types import SimpleNamespace

import numpy as np


class SimulatedPlan:
    """Stands where ``ICudaEngine`` does; the logits are those of a CPU engine.

    As TensorRT does, it computes in memory that its contexts share, and depends on the state of a context: a graph
    whose context has taken another shape since computes nonsense.
    """

    def __init__(
        self, runtime, engine, activation_bytes, *, lazy_memory=False, compute_seconds=0.0, refuses=frozenset()
    ):
        """``refuses``: what the library answers False to: ``"capture"`` or the name of a tensor."""
        self.runtime, self.engine, self.device_memory_size_v2 = runtime, engine, activation_bytes
        self.lazy_memory, self.compute_seconds, self.refuses = lazy_memory, compute_seconds, refuses
        self.contexts = 0
        self.settings = None

    def create_runtime_config(self):
        return SimpleNamespace(
            set_execution_context_allocation_strategy=lambda strategy: None,
            create_runtime_cache=lambda: object(),
            set_runtime_cache=lambda cache: True,
            dynamic_shapes_kernel_specialization_strategy="lazy",
        )

    def create_execution_context(self, settings):
        self.settings = settings
        self.contexts += 1
        return SimulatedContext(self)


class SimulatedContext:
    """Stands where ``IExecutionContext`` does."""

    def __init__(self, plan):
        self.plan, self.addresses, self.shape, self.settled, self.memory = plan, {}, None, None, 0

    def set_device_memory(self, address, nbytes):
        assert nbytes >= self.plan.device_memory_size_v2
        self.memory = address

    def set_input_shape(self, name, shape):
        assert name == "image"
        self.shape = tuple(shape)
        return self.shape[0] <= self.plan.engine.batch_range[1]

    def set_tensor_address(self, name, address):
        if name in self.plan.refuses:
            return False
        self.addresses[name] = address
        return True

    def is_stream_capturable(self, handle):
        return not self.plan.lazy_memory

    def execute_async_v3(self, handle):
        runtime, shape, addresses = self.plan.runtime, self.shape, dict(self.addresses)
        stream = runtime.streams[handle]
        captured = stream.recording is not None
        if captured and (self.settled != shape or "capture" in self.plan.refuses):
            return False  # a shape is settled by a run that is not captured
        self.settled = shape
        nbytes = int(np.prod(shape))
        assert runtime.owns("device", addresses["image"], nbytes)
        assert runtime.owns("device", addresses["logit"], shape[0] * 4)
        assert self.memory in runtime.memory

        def compute():
            time.sleep(self.plan.compute_seconds)
            stream.clock_seconds += self.plan.compute_seconds
            assert runtime.owns("device", addresses["image"], nbytes)
            pixels = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(addresses["image"]))
            logits = self.plan.engine.logits(pixels.reshape(shape).copy())
            if captured and self.settled != shape:
                logits = np.full_like(logits, np.nan)
            ctypes.memmove(addresses["logit"], logits.ctypes.data, logits.nbytes)

        stream.put(compute)
        return True


def simulate_library(library, plan):
    """A library that loads a simulated plan and is otherwise the given one."""
    module = SimpleNamespace(
        Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda content: plan),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user"),
        DynamicShapesKernelSpecializationStrategy=SimpleNamespace(EAGER="eager"),
    )
    return SimpleNamespace(
        name=library.name,
        version=library.version,
        module=module,
        logger=None,
        sink=library.sink,
        is_rtx=library.is_rtx,
    )
