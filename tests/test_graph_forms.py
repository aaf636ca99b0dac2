import numpy as np
import onnx
import pytest

import engines.graph_forms
from engines.builder import BuildConfig, build_engine, build_fastest
from engines.graph_forms import EXPORTED, REWRITTEN, is_better, list_forms
from engines.library import load_library
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.kernels import Kernel, count_bytes

CONFIG = BuildConfig(batch=(1, 4, 8))


def kernel(nbytes, products=0):
    return Kernel(
        name="a",
        kind="correlation",
        picture_bytes=nbytes,
        run_bytes=0,
        arithmetic="int8" if products else None,
        multiply_adds=products,
    )


@pytest.fixture(autouse=True)
def _fresh():
    engines.graph_forms._rewrite.cache_clear()
    yield
    engines.graph_forms._rewrite.cache_clear()


def test_the_form_that_moves_less_is_built_and_named(deployment, tmp_path):
    graph = deployment.graph(Precision.FP16)
    library = load_library("tensorrt-rtx")
    built = build_engine(graph, tmp_path / "a.engine", library, "sm86", CONFIG).info
    plain = BuildConfig(batch=(1, 4, 8), as_exported=True)
    exported = build_fastest(graph.read_bytes(), "it", read_graph_info(graph), library, "sm86", plain)
    assert (built.form, exported.form) == (REWRITTEN, EXPORTED)
    assert count_bytes(built.kernels) < count_bytes(exported.kernels)


def test_a_rewritten_form_that_is_not_the_same_is_not_built(deployment, monkeypatch, caplog):
    content = deployment.graph(Precision.FP16).read_bytes()

    def spoil(model):
        spoilt = onnx.ModelProto()
        spoilt.CopyFrom(model)
        (weight,) = [tensor for tensor in spoilt.graph.initializer if tensor.name == "conv2.weight"]
        values = onnx.numpy_helper.to_array(weight)
        weight.CopyFrom(onnx.numpy_helper.from_array((values * np.float16(1.2)).astype(np.float16), weight.name))
        return spoilt

    monkeypatch.setattr(engines.graph_forms, "rewrite_for_rtx", spoil)
    assert list(list_forms(content)) == [EXPORTED]
    assert "its logits differ" in caplog.text


def test_without_onnx_runtime_nothing_is_rewritten_and_that_is_said(deployment, monkeypatch, caplog):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert list(list_forms(deployment.graph(Precision.FP16).read_bytes())) == [EXPORTED]
    assert "without ONNX Runtime" in caplog.text


@pytest.mark.parametrize(
    ("kernels", "other", "better"),
    [
        ([kernel(10)], [kernel(11)], True),
        ([kernel(10)], [kernel(10)], False),
        ([kernel(10, 10**9)], [kernel(11)], False),
        (None, [kernel(11)], False),
        ([kernel(10)], None, False),
    ],
)
def test_the_faster_at_best_is_better(kernels, other, better):
    assert is_better(kernels, other, "sm86", 8) is better


def test_where_no_card_is_known_what_moves_less_is_better():
    assert is_better([kernel(10, 10**9)], [kernel(11)], "sm121", 8)
