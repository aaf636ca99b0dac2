import pytest

from lfm_deploy.benchmark import ceilings
from lfm_deploy.benchmark.ceilings import choose_ceilings, list_libraries, thread_variables


def test_the_best_library_and_shape_by_its_median_is_the_ceiling():
    rates = {
        "NumPy (OpenBLAS)": [
            [("fp32", "small", 90.0), ("fp32", "large", 99.0), ("bandwidth", "copy", 7.0)],
            [("fp32", "small", 80.0), ("fp32", "large", 10.0), ("bandwidth", "copy", 9.0)],
            [("fp32", "small", 85.0), ("fp32", "large", 20.0), ("bandwidth", "copy", 8.0)],
        ],
        "MKL": [[("fp32", "small", 70.0)], [("fp32", "small", 84.0)], [("fp32", "small", 95.0)]],
    }
    found = choose_ceilings(rates)
    assert set(found) == {"fp32", "bandwidth"}
    fp32 = found["fp32"]
    assert (fp32.library, fp32.what, fp32.rounds, fp32.rate) == (
        "NumPy (OpenBLAS)", "small", (99.0, 84.0, 95.0), 95.0,
    )  # fmt: skip  # each round's best, whoever reached it: nothing may be faster than its limit
    assert fp32.others == {"MKL": 84.0}
    assert (found["bandwidth"].library, found["bandwidth"].rate) == ("NumPy", 8.0)  # a BLAS does not copy


def test_nothing_measured_is_no_ceiling():
    assert choose_ceilings({}) == {}


@pytest.mark.parametrize(
    ("device", "amx", "libraries"),
    [
        ("cpu", False, ["numpy", "torch", "onnxruntime"]),
        ("cpu", True, ["numpy", "torch", "onnxruntime", "amx"]),
        ("cuda:0", True, ["torch"]),
    ],
)
def test_libraries_by_device(device, amx, libraries, monkeypatch):
    monkeypatch.setattr(ceilings, "has_amx", lambda: amx)
    assert list_libraries(device) == libraries


def test_threads_of_every_blas_are_limited():
    assert thread_variables(3) == {
        "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3", "MKL_NUM_THREADS": "3",
    }  # fmt: skip
