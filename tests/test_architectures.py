"""Every architecture goes the whole way: exported, proved, built by TensorRT-RTX, refused where it has no way."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from conftest import write_random_checkpoint

from engines.builder import BuildConfig
from engines.library import load_library
from export.graph import ExportConfig, make_graph
from export.proof import BATCHES
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.cli import run
from lfm_deploy.config import NPR, Backbone, ModelConfig, Pooling, Residual
from lfm_deploy.deployment.deployment import BuildTarget, build_into, export_into
from lfm_deploy.engine_info import read_engine_info
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.suites import load_suites
from lfm_deploy.verification.verification import verify
from lfm_deploy.verification.verify_options import VerifyOptions
from lfm_deploy.workdir import Workdir

SIDE = 64
SMALL = ModelConfig(widths=(8, 8, 16), projection=4, k=4)
CONFIGS = {
    "average": replace(SMALL, pooling=Pooling.AVERAGE),
    "max": replace(SMALL, pooling=Pooling.MAX),
    "attention": replace(SMALL, pooling=Pooling.ATTENTION, projection=16),
    "depth 5, signed": replace(SMALL, widths=(8, 8, 8, 8, 8), residual=Residual.SIGNED),
    "Top-K on ResNet-50": replace(SMALL, backbone=Backbone.RESNET50),
    "NPR": replace(NPR, widths=(4, 8)),
}


@pytest.fixture(scope="module", params=CONFIGS, ids=str)
def exported(request, tmp_path_factory):
    """A workdir with one architecture: FP32 with its proof, FP16, and engines of both for sm86."""
    folder = tmp_path_factory.mktemp("architecture")
    checkpoint = write_random_checkpoint(CONFIGS[request.param], folder / "random.pth", SIDE)
    workdir, said = Workdir(folder / "deploy"), []
    graph = export_into(workdir, checkpoint, ExportConfig(size=SIDE), said.append)
    target = BuildTarget(load_library("tensorrt-rtx"), ("sm86",), "for the tests")
    for precision in (Precision.FP32, Precision.FP16):
        build_into(workdir, precision, target, BuildConfig(batch=(1, 4, 8)), on_message=said.append)
    return SimpleNamespace(name=request.param, workdir=workdir, proof=graph.proof, said=said)


def test_it_is_proved_built_and_says_what_it_is(exported):
    assert {row.batch for row in exported.proof} == set(BATCHES)
    assert sum(row.flips for row in exported.proof) == 0
    assert any("proved" in line and "0 flips" in line for line in exported.said)  # of the FP16 graph
    config = CONFIGS[exported.name]
    assert [read_graph_info(path).config for path in exported.workdir.graphs()] == [config] * 2
    assert [read_engine_info(path).config for path in exported.workdir.engines()] == [config] * 2


def test_its_graph_has_what_its_config_says(exported):
    config = CONFIGS[exported.name]
    for path in exported.workdir.graphs():
        graph = onnx.load(path).graph
        counts = Counter(node.op_type for node in graph.node)
        assert tuple(node.name for node in graph.node if node.op_type == "Conv") == config.layers
        assert counts["TopK"] == (config.pooling is Pooling.TOPK)
        assert counts["Abs"] == (config.residual is Residual.ABSOLUTE)
        assert not {"BatchNormalization", "MatMul", "Gemm"} & set(counts)
        names = [node.name for node in graph.node]
        assert len(set(names)) == len(names)


def test_every_engine_of_it_decides_alike(exported, pictures, no_gpu):
    found = verify(exported.workdir, load_suites(pictures, size=SIDE), VerifyOptions(speed_seconds=0))
    assert [(one.name, one.not_run is None) for one in found.engines] == [
        ("pytorch fp32", True),
        ("onnxruntime fp32", True),
        ("onnxruntime fp16", True),
        ("tensorrt-rtx fp16 sm86", False),
        ("tensorrt-rtx fp32 sm86", False),
    ]
    # No decision may flip. Of FP16 the proof has judged every logit; its gates are for trained networks, whose logits
    # lie further apart.
    assert not found.engines[1].failed


def test_what_is_for_snet_with_topk_alone_says_so_in_one_line(exported, calibration_folder, pictures, tmp_path, capfd):
    if exported.name == "depth 5, signed":
        pytest.skip("of this one there is evidence")
    workdir = ("--workdir", exported.workdir.path)
    for arguments, complaint in (
        (("calibrate", calibration_folder, *workdir), "build --fp16"),
        (("build", "--int8", *workdir), "build --fp16"),
        (
            ("export", exported.workdir.checkpoint, "--evidence", "--workdir", tmp_path / "other"),
            "leave --evidence out",
        ),
        (("predict", pictures / "first" / "0_real", "--evidence", tmp_path / "png", *workdir), "leave --evidence out"),
    ):
        assert run([*map(str, arguments)]) == 2
        error = [line for line in capfd.readouterr().err.splitlines() if line.startswith("Error: ")]
        assert len(error) == 1
        assert complaint in error[0]
    assert not (tmp_path / "other").exists()


def test_native_sizes_of_npr_are_dynamic(tmp_path):
    """Its smallest picture has one position, which the exporter must not take for a constant."""
    import onnxruntime

    source = read_checkpoint(write_random_checkpoint(CONFIGS["NPR"], tmp_path / "npr.pth", SIDE))
    model = make_graph(source, ExportConfig(size="native"))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for height, width in ((2, 2), (2, 4), (34, 50)):
        assert session.run(None, {"image": np.zeros((3, height, width, 3), np.uint8)})[0].shape == (3,)


def test_the_published_baseline_in_onnx(shared, golden):
    import onnxruntime

    model = make_graph(read_checkpoint(shared / "official" / "npr_random.pth"), ExportConfig())
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": golden["images"]})
    # As for PyTorch; random weights give logits below 0.2, 5e-7 was seen.
    np.testing.assert_allclose(logits, np.load(shared / "official" / "npr_random_logits.npy"), rtol=0, atol=1e-5)
