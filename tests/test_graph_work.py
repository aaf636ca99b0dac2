import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.graph import ExportConfig, make_graph
from lfm_deploy.artifacts import Precision
from lfm_deploy.config import ModelConfig
from lfm_deploy.deployment.graph_work import Work, count_work
from lfm_deploy.errors import ArtifactError
from lfm_deploy.network.checkpoint import Checkpoint
from lfm_deploy.network.model import LFM
from lfm_deploy.quantisation import Recipe


def save(path, nodes, constants, shape=("batch", 3, 8, 6), dtype=TensorProto.FLOAT):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", dtype, shape)],
        [helper.make_tensor_value_info("logit", dtype, None)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


def export_unproved(config, path, size):
    """A graph with random weights; work does not depend on them."""
    checkpoint = Checkpoint(config=config, state=LFM(config).state_dict(), layout="lfm-deploy", sha256="0" * 64)
    onnx.save(make_graph(checkpoint, ExportConfig(size=size)), path)
    return path


WEIGHT = np.zeros((4, 3, 2, 2), np.float32)


def test_a_convolution_counted_by_hand(tmp_path):
    nodes = [
        helper.make_node("Conv", ["image", "weight", "bias"], ["features"]),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("MaxPool", ["positive"], ["logit"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    path = save(tmp_path / "conv.onnx", nodes, {"weight": WEIGHT, "bias": np.zeros(4, np.float32)})
    found = count_work(path, 5, 256)
    # 8x6 pixels give 7x5 positions of 4 channels, each a sum of 3x2x2 products.
    assert found.multiply_adds == {"fp32": 5 * 7 * 5 * 4 * 12}
    # Conv: 3x8x6 in, 48 weights, 4 biases, 4x7x5 out. MaxPool: 4x7x5 in, 4x3x2 out. ReLU is fused.
    assert found.elements == {"fp32": 5 * 144 + 48 + 4 + 5 * 140 + 5 * 140 + 5 * 24}
    assert found.traffic_bytes == 4 * found.elements["fp32"]
    # The features between the two steps need not move: 5 pictures in, 52 constants, 5 poolings out.
    assert found.least_bytes == 4 * (5 * 144 + 52 + 5 * 24)


def test_linear_layers_counted_by_hand(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["image", "square"], ["product"]),
        helper.make_node("Gemm", ["product", "turned"], ["logit"], transB=1),
    ]
    constants = {"square": np.zeros((6, 10), np.float32), "turned": np.zeros((7, 10), np.float32)}
    path = save(tmp_path / "linear.onnx", nodes, constants, shape=("batch", 6))
    assert count_work(path, 3, 256).multiply_adds == {"fp32": 3 * 6 * 10 + 3 * 10 * 7}


def test_sizes_and_axes_are_no_traffic(tmp_path):
    nodes = [
        helper.make_node("TopK", ["image", "k"], ["values", "positions"]),
        helper.make_node("ReduceSum", ["values", "axes"], ["logit"], keepdims=0),
    ]
    constants = {"k": np.array([4], np.int64), "axes": np.array([1], np.int64)}
    found = count_work(save(tmp_path / "top.onnx", nodes, constants, shape=("batch", 9)), 2, 256)
    assert found.multiply_adds == {}
    # TopK reads 9 and writes 4, ReduceSum reads 4 and writes 1; nobody reads the positions.
    assert found.elements == {"fp32": 2 * (9 + 4 + 4 + 1)}


def test_grouped_convolutions_sum_over_their_group(tmp_path):
    nodes = [helper.make_node("Conv", ["image", "weight"], ["logit"], group=3)]
    path = save(tmp_path / "grouped.onnx", nodes, {"weight": np.zeros((6, 1, 2, 2), np.float32)})
    assert count_work(path, 1, 256).multiply_adds == {"fp32": 7 * 5 * 6 * 4}


def test_integers_between_quantise_and_dequantise_are_one_byte(tmp_path):
    scale, zero = np.float32(0.1), np.uint8(0)
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["weight", "scale", "zero8"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["features"]),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("QuantizeLinear", ["positive", "scale", "zero"], ["q2"]),
        helper.make_node("DequantizeLinear", ["q2", "scale", "zero"], ["logit"]),
    ]
    constants = {"scale": scale, "zero": zero, "zero8": np.int8(0), "weight": WEIGHT.astype(np.int8)}
    found = count_work(save(tmp_path / "qdq.onnx", nodes, constants), 2, 256)
    assert found.multiply_adds == {"int8": 2 * 35 * 4 * 12}
    assert found.elements == {"int8": 2 * 144 + 48 + 2 * 140}


def test_weights_alone_in_integers_are_no_integer_product(tmp_path):
    nodes = [
        helper.make_node("DequantizeLinear", ["weight", "scale"], ["w"]),
        helper.make_node("Conv", ["image", "w"], ["logit"]),
    ]
    constants = {"scale": np.float32(0.1), "weight": WEIGHT.astype(np.int8)}
    found = count_work(save(tmp_path / "weights.onnx", nodes, constants), 1, 256)
    assert found.multiply_adds == {"fp32": 35 * 4 * 12}


def test_a_product_that_is_not_counted_is_refused(tmp_path):
    nodes = [helper.make_node("ConvTranspose", ["image", "weight"], ["logit"])]
    path = save(tmp_path / "foreign.onnx", nodes, {"weight": np.zeros((3, 3, 2, 2), np.float32)})
    with pytest.raises(ArtifactError, match=r"foreign\.onnx: its work cannot be counted: ConvTranspose"):
        count_work(path, 1, 256)


def test_the_exported_graph_has_the_architectures_multiply_adds(small_graph, small_config):
    found = count_work(small_graph, 3, 256)
    assert found.multiply_adds == {"fp32": 3 * sum(small_config.multiply_adds(256, 256).values())}


def test_native_size_is_counted_for_the_side_that_is_asked_for(small_config, tmp_path):
    path = export_unproved(small_config, tmp_path / "native.onnx", "native")
    for side in (64, 128):
        found = count_work(path, 2, side)
        assert found.total_multiply_adds == 2 * sum(small_config.multiply_adds(side, side).values())


def test_int8_graphs_keep_the_sum_and_say_what_is_integer(calibrated, small_config):
    plain = count_work(calibrated.graph(Precision.FP32), 4, 64)
    assert plain.total_multiply_adds == 4 * sum(small_config.multiply_adds(64, 64).values())
    mixed = count_work(calibrated.graph(Precision.INT8, Recipe.TENSORRT), 4, 64)
    assert mixed.total_multiply_adds == plain.total_multiply_adds
    assert set(mixed.multiply_adds) <= {"int8", "fp16"}
    integers = count_work(calibrated.graph(Precision.INT8, Recipe.CPU), 4, 64)
    assert integers.multiply_adds["int8"] > 0
    # One byte instead of four, where nearly everything is in integers.
    assert integers.traffic_bytes < 0.5 * plain.traffic_bytes


def test_the_published_architecture_has_1_58_g_multiply_adds_a_picture(tmp_path):
    path = export_unproved(ModelConfig(), tmp_path / "lfm.onnx", 256)
    # By hand: 255² x 64 x 12, 126² x 128 x 256, 62² x 256 x 512, 30² x 512 x 1024 and 30² x 64 x 512.
    by_hand = 49_939_200 + 520_224_768 + 503_840_768 + 471_859_200 + 29_491_200
    assert by_hand == 1_575_355_136 == sum(ModelConfig().multiply_adds(256, 256).values())
    assert count_work(path, 8, 256).multiply_adds == {"fp32": 8 * by_hand}


def test_work_moves_to_the_kernels_that_there_are():
    work = Work(multiply_adds={"int8": 3, "fp16": 4}, elements={"int8": 10, "fp16": 20, "fp32": 1}, least_bytes=9)
    assert work.traffic_bytes == 10 + 40 + 4
    moved = work.in_kernels({"int8": "fp32", "fp16": "fp32"})
    assert (moved.multiply_adds, moved.elements) == ({"fp32": 7}, {"fp32": 31})
    assert work.in_kernels({}) == work
