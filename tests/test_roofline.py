import pytest

from lfm_deploy.benchmark.roofline import Limit, choose_kernels, find_limit
from lfm_deploy.deployment.graph_work import Work


def test_the_lower_of_two_ceilings_is_the_limit():
    # 50 multiply-adds are 100 operations; 100 float32 values are 400 bytes, of which 40 have to move.
    work = Work(multiply_adds={"fp32": 50}, elements={"fp32": 100}, least_bytes=40)
    found = find_limit(work, {"fp32": 200.0, "bandwidth": 400.0}, 8)
    assert found == Limit(fps=16.0, bound="compute", unfused_fps=8.0)
    found = find_limit(work, {"fp32": 2000.0, "bandwidth": 400.0}, 8)
    assert found == Limit(fps=80.0, bound="bandwidth", unfused_fps=8.0)


def test_each_precision_is_held_against_its_own_ceiling():
    work = Work(multiply_adds={"int8": 200, "fp16": 50}, elements={"int8": 1}, least_bytes=1)
    found = find_limit(work, {"int8": 400.0, "fp16": 100.0, "bandwidth": 1e9}, 1)
    assert found == Limit(fps=pytest.approx(1 / (1.0 + 1.0)), bound="compute", unfused_fps=1e9)


@pytest.mark.parametrize("missing", ["int8", "bandwidth"])
def test_without_a_ceiling_there_is_a_reason_instead_of_a_limit(missing):
    work = Work(multiply_adds={"int8": 200}, elements={"int8": 1}, least_bytes=1)
    ceilings = {"int8": 1.0, "bandwidth": 1.0}
    del ceilings[missing]
    assert find_limit(work, ceilings, 1) == f"no ceiling was measured for {missing}"


@pytest.mark.parametrize(
    ("runtime", "device", "precision", "recipe", "int8", "fp16", "said"),
    [
        ("onnxruntime", "cpu", "fp16", None, "int8", "fp32", True),
        ("onnxruntime", "cpu", "int8", "tensorrt", "fp32", "fp32", True),
        ("onnxruntime", "cpu", "int8", "cpu", "int8", "fp32", False),
        ("onnxruntime", "cuda:0", "fp16", None, "int8", "fp16", False),
        ("onnxruntime", "cuda:0", "int8", "tensorrt", "fp16", "fp16", True),
        ("onnxruntime", "cuda:0", "int8", "cpu", "fp32", "fp16", True),
        ("tensorrt", "cuda:0", "int8", "tensorrt", "int8", "fp16", False),
        ("openvino", "cpu", "int8", "cpu", "int8", "fp32", False),
        ("openvino", "cpu", "bf16", None, "int8", "bf16", False),
    ],
)
def test_what_a_runtime_runs_instead_of_what_the_graph_asks_for(runtime, device, precision, recipe, int8, fp16, said):
    kernels, reason = choose_kernels(runtime, device, precision, recipe)
    assert kernels.get("int8", "int8") == int8
    assert kernels.get("fp16", "fp16") == fp16
    assert kernels.get("fp32", "fp32") == ("bf16" if precision == "bf16" else "fp32")
    assert (reason is not None) == said
