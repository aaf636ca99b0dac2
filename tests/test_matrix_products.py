import numpy as np
import onnxruntime
import pytest
import torch

from lfm_deploy.benchmark import matrix_products as products
from lfm_deploy.benchmark.matrix_products import Case, make_product, open_products, time_case
from lfm_deploy.errors import UnavailableError
from lfm_deploy.machine import has_amx


@pytest.fixture
def small_shapes(monkeypatch):
    monkeypatch.setattr(products, "_CPU_SHAPES", ((8, 4, 2), (16, 8, 4)))
    monkeypatch.setattr(products, "_CPU_COPY_BYTES", 1 << 16)


def test_one_node_graphs_compute_the_product():
    rng = np.random.default_rng(0)
    for left, right in (
        (rng.random((5, 7), dtype=np.float32), rng.random((7, 3), dtype=np.float32)),
        (rng.integers(0, 256, (5, 7), np.uint8), rng.integers(-127, 128, (7, 3), np.int8)),
    ):
        session = onnxruntime.InferenceSession(make_product(left, right), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"left": left})
        wide = np.int64 if left.dtype == np.uint8 else np.float64
        # Integers are exact; seven float32 products round in the last digits.
        np.testing.assert_allclose(found, left.astype(wide) @ right.astype(wide), rtol=1e-5)


def test_a_rate_is_the_amount_over_the_time(monkeypatch):
    ticks = iter(range(100))  # the clock moves one second whenever it is read
    monkeypatch.setattr(products.time, "perf_counter", lambda: float(next(ticks)))
    runs = []
    rate = time_case(Case(kind="fp32", what="x", amount=10.0, run=lambda: runs.append(1)), 3.5)
    # The clock is read at the start and after every run: 4 s are the first that are not below 3.5 s.
    assert rate == 10.0
    assert len(runs) == 1 + 4  # the first is not timed


@pytest.mark.parametrize(
    ("library", "name", "kinds"),
    [
        ("numpy", "NumPy (OpenBLAS)", ["fp32", "fp32", "bandwidth"]),
        ("onnxruntime", "ONNX Runtime (MLAS)", ["fp32", "int8", "fp32", "int8"]),
    ],
)
def test_every_library_measures_each_shape(small_shapes, library, name, kinds):
    about, measure = open_products({"library": library, "device": "cpu", "threads": 1, "quick": False})
    assert about == {"library": name}
    rates = measure({"seconds": 0.001})["rates"]
    assert [kind for kind, _, _ in rates] == kinds
    assert {what for kind, what, _ in rates if kind != "bandwidth"} == {"8x4x2", "16x8x4"}
    assert all(rate > 0 for _, _, rate in rates)


@pytest.mark.skipif(not has_amx(), reason="this processor has no AMX")
def test_the_units_of_amx_are_measured_in_their_registers():
    pytest.importorskip("numba", reason="the extra 'amx' is not installed")
    from engines.amx.peak import multiply_tiles

    about, measure = open_products({"library": "amx", "device": "cpu", "threads": 2, "quick": False})
    assert about == {"library": "kernels for AMX"}
    rates = measure({"seconds": 0.01})["rates"]
    assert [(kind, what) for kind, what, _ in rates] == [("bf16", "tiles in registers"), ("int8", "tiles in registers")]
    # An INT8 tile holds twice as many inputs; a wrong count of operations would show as another ratio.
    assert multiply_tiles("int8", 3) == 2 * multiply_tiles("bf16", 3) == 2 * 3 * 16 * 2 * 16 * 16 * 32


def test_pytorch_measures_float32(small_shapes):
    threads = torch.get_num_threads()
    try:
        about, measure = open_products({"library": "torch", "device": "cpu", "threads": 1, "quick": False})
        rates = measure({"seconds": 0.001})["rates"]
    finally:
        torch.set_num_threads(threads)
    assert about["library"].startswith("PyTorch (")
    assert ["fp32", "8x4x2"] in [rate[:2] for rate in rates]


def test_a_quick_look_takes_smaller_ones():
    _, measure = open_products({"library": "numpy", "device": "cpu", "threads": 1, "quick": True})
    found = [rate[1] for rate in measure({"seconds": 0.001})["rates"]]
    assert found == ["1024x1024x1024", "copy of 64 MiB"]


def test_operations_and_bytes_are_counted(small_shapes):
    first, second, copy = products._numpy_cases(products._CPU_SHAPES, 1 << 16, 2)
    assert (first.amount, second.amount) == (2 * 8 * 4 * 2, 2 * 16 * 8 * 4)
    assert copy.amount == 2 * (1 << 16)  # read and written


def test_copies_reach_every_byte(small_shapes, monkeypatch):
    copied = []
    original = np.copyto
    monkeypatch.setattr(products.np, "copyto", lambda to, source: (copied.append(to.nbytes), original(to, source)))
    products._numpy_cases((), 1 << 16, 3)[-1].run()
    assert (len(copied), sum(copied)) == (3, 1 << 16)


def test_a_gpu_that_is_not_there_is_a_reason(no_gpu):
    with pytest.raises(UnavailableError, match="no CUDA device"):
        open_products({"library": "torch", "device": "cuda:0", "threads": 1, "quick": False})
