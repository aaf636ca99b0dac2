import inspect
import sys

import numpy as np
import pytest
from simulated_cuda import SimulatedRuntime

from engines.memory import (
    CudaError,
    DeviceBuffer,
    Event,
    PinnedBuffer,
    Stream,
    check,
    free_memory,
    load_runtime,
    select_device,
    view_device_array,
)
from lfm_deploy.errors import ShapeError, UnavailableError


class FakeArray:
    """What pycuda, CuPy and PyTorch arrays show of themselves."""

    def __init__(self, **changes):
        self.__cuda_array_interface__ = {
            "shape": (2, 4, 6, 3),
            "typestr": "|u1",
            "data": (0x7F00, False),
            "version": 3,
            "strides": None,
        } | changes


def test_view_device_array_reads_address_shape_dtype_and_stream():
    view = view_device_array(FakeArray(stream=7))
    assert (view.address, view.shape, view.dtype, view.stream) == (0x7F00, (2, 4, 6, 3), "uint8", 7)


def test_view_device_array_takes_explicit_contiguous_strides():
    strides = np.zeros((2, 4, 6, 3), np.uint8).strides
    assert view_device_array(FakeArray(strides=strides)).stream is None


@pytest.mark.parametrize("changes", [{"strides": (72, 3, 12, 1)}, {"mask": object()}])
def test_view_device_array_refuses_what_it_would_read_wrongly(changes):
    with pytest.raises(ShapeError, match="not contiguous"):
        view_device_array(FakeArray(**changes))


def test_check_passes_values_and_names_the_failure():
    runtime = load_runtime()
    assert check(runtime, (runtime.cudaError_t.cudaSuccess, 5), "asking") == 5
    with pytest.raises(CudaError, match=r"allocating 9 MiB.*CUDA error 2"):
        check(runtime, (runtime.cudaError_t.cudaErrorMemoryAllocation, None), "allocating 9 MiB")


def test_missing_cuda_python_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(UnavailableError, match=r"pip install lfm-deploy\[rtx\]"):
        load_runtime()


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (Stream, "creating a CUDA stream"),
        (Event, "creating a CUDA event"),
        (free_memory, "asking how much GPU memory is free"),
        (lambda runtime: select_device(runtime, 1), "choosing CUDA device 1"),
        (lambda runtime: DeviceBuffer(runtime, 5 << 20), "allocating 5 MiB of GPU memory"),
        (lambda runtime: PinnedBuffer(runtime, 5 << 20, np.dtype(np.uint8)), "pinning 5 MiB of host memory"),
    ],
)
def test_without_a_driver_each_call_says_what_it_tried(no_gpu, attempt, words):
    with pytest.raises(CudaError, match=rf"{words}: .*CUDA error 35"):
        attempt(load_runtime())


def test_events_of_a_stream_measure_and_order():
    runtime = SimulatedRuntime(copy_seconds=0.003)
    stream, first, second = Stream(runtime), Event(runtime, timed=True), Event(runtime, timed=True)
    pinned, there = PinnedBuffer(runtime, 4, np.dtype(np.uint8)), DeviceBuffer(runtime, 4)
    first.record(stream)
    there.copy_from_host(pinned.address, 4, stream)
    second.record(stream)
    second.synchronize()
    assert first.elapsed_ms(second) == pytest.approx(3)
    assert free_memory(runtime) == ((8 << 30) - 4, 8 << 30)


def test_the_simulated_device_has_calls_of_the_real_one():
    """Else tests against it would prove nothing about the calls that are made."""
    real = load_runtime()
    calls = [
        name for name in vars(SimulatedRuntime) if name.startswith("cuda") and callable(getattr(SimulatedRuntime, name))
    ]
    assert len(calls) > 25
    for name in calls:
        documented = inspect.getdoc(getattr(real, name)).splitlines()[0]  # "cudaFree(devPtr)"
        arguments = documented.partition("(")[2].rpartition(")")[0]
        wanted = len([argument for argument in arguments.split(",") if argument.strip()])
        assert len(inspect.signature(getattr(SimulatedRuntime, name)).parameters) - 1 == wanted, documented
    assert real.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal is not None
    for name in ("cudaEventDefault", "cudaEventDisableTiming", "cudaStreamNonBlocking"):
        assert getattr(real, name) == getattr(SimulatedRuntime, name), name
