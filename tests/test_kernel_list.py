import pytest

from engines.kernel_list import read_kernels
from engines.library import load_library
from engines.plans import BuildConfig, build_plan
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.kernels import Kernel, count_bytes

CONVOLUTION = (
    "Name: conv2_myl0_4, LayerType: {kind}, Inputs: [ {{ Name: a, Dimensions: [-1,64,127,127], Strides: [1,1,1,1], "
    "StrideOrder: [3,0,2,1], Datatype: Half, Format: (NHWC) Channel major format }}], Constants: [ {{ Name: w, "
    "Dimensions: [128,64,2,2], Strides: [256,1,128,64], StrideOrder: [3,0,2,1], Datatype: {weight}, Format: (x) }}, "
    "{{ Name: s, Dimensions: [1], Strides: [1], StrideOrder: [0], Datatype: Float, Format: (x) y }}], Outputs: [ "
    "{{ Name: b, Dimensions: [-1,128,126,{side}], Strides: [1,1,1,1], StrideOrder: [3,0,2,1], Datatype: Half, "
    "Format: (NHWC) Channel major format }}], TacticName: __myelin_CASK_STUB, StreamId: 0, Metadata: [ONNX Layer: a]"
)


def convolution(kind="correlation", weight="Half", side="126"):
    return f"Layers:\n{CONVOLUTION.format(kind=kind, weight=weight, side=side)}\nBindings:\nimage\nlogit"


def test_a_convolution_moves_its_maps_for_each_picture_and_its_weights_once():
    (kernel,) = read_kernels([convolution()])
    assert kernel == Kernel(
        name="conv2_myl0_4",
        kind="correlation",
        picture_bytes=2 * (64 * 127 * 127 + 128 * 126 * 126),
        run_bytes=2 * 128 * 64 * 4 + 4,
        arithmetic="fp16",
        multiply_adds=128 * 126 * 126 * 64 * 4,
    )


@pytest.mark.parametrize(("weight", "arithmetic"), [("Int8", "int8"), ("Float", "fp32")])
def test_the_weights_say_what_the_products_are(weight, arithmetic):
    (kernel,) = read_kernels([convolution(weight=weight)])
    assert kernel.arithmetic == arithmetic


@pytest.mark.parametrize("spoilt", [{"kind": "gemm"}, {"weight": "FP8"}, {"side": "-1"}])
def test_what_cannot_be_counted_is_not_half_counted(spoilt):
    assert read_kernels([convolution(), convolution(**spoilt)]) is None


def test_a_tensor_that_is_named_twice_is_moved_once():
    start, end = convolution().split("Inputs: [", 1)
    tensor = end.split("}], Constants", 1)[0]
    assert read_kernels([f"{start}Inputs: [{tensor}}},{end}"]) == read_kernels([convolution()])


def test_a_log_without_kernels_has_no_list():
    assert read_kernels(["Total Weights Memory: 5", "Layers:"]) is None


@pytest.fixture(scope="module")
def listed(deployment):
    graph = deployment.graph(Precision.FP16)
    library = load_library("tensorrt-rtx")
    plan = build_plan(graph.read_bytes(), "it", read_graph_info(graph), library, "sm86", BuildConfig(batch=(1, 4, 8)))
    return read_kernels(line.text for line in plan.lines)


def test_the_real_list_has_the_networks_products(listed, small_config):
    counted = sum(kernel.multiply_adds for kernel in listed if kernel.arithmetic == "fp16")
    exact = sum(small_config.multiply_adds(256, 256).values())
    # Three colours are padded to four channels, and to eight in front of tensor cores.
    assert exact <= counted <= 8 / 3 * exact


def test_the_real_list_begins_with_the_picture_and_ends_with_the_logit(listed):
    moving = [kernel for kernel in listed if kernel.picture_bytes]
    assert moving[0].picture_bytes >= 256 * 256 * 3
    assert moving[-1].picture_bytes < 10_000
    assert count_bytes(listed) > 256 * 256 * 3
