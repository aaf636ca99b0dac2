import sys

import numpy as np
import pytest

from engines.memory import CudaError, check, load_runtime, view_device_array
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
