import sys
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from engines.ort import OrtEngine, load_cuda_libraries
from engines.ort_cuda import OrtCudaEngine
from engines.pytorch import PyTorchEngine
from export.exporter import export_onnx
from export.graph import ExportConfig
from lfm_deploy.artifacts import InputForm, Precision
from lfm_deploy.errors import ArtifactError, ConfigError, ShapeError, UnavailableError
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.network.evidence import evidence_contributions
from lfm_deploy.pictures.photographs import sample_tiles


def test_logits_equal_pytorch_whatever_the_batch(small_graph, small_checkpoint):
    images = sample_tiles(256, 256, 40)  # more than runs at a time
    engine = OrtEngine(small_graph)
    expected = PyTorchEngine.from_file(small_checkpoint).logits(images)
    # The export's own tolerance for float32.
    np.testing.assert_allclose(engine.logits(images), expected, rtol=0, atol=1e-3)
    alone = np.concatenate([engine.logits(images[index : index + 1]) for index in range(4)])
    np.testing.assert_allclose(alone, expected[:4], rtol=0, atol=1e-3)
    assert np.ptp(expected) > 0.1  # the pictures do get different logits


def test_the_float_variant_normalises_on_the_host_and_agrees(small_checkpoint, tile_workdir, tmp_path):
    export_onnx(small_checkpoint, tmp_path / "float.onnx", ExportConfig(size=64, input=InputForm.FLOAT))
    images = sample_tiles(64, 64, 3)
    expected = OrtEngine(tile_workdir.graph(Precision.FP32)).logits(images)
    np.testing.assert_allclose(OrtEngine(tmp_path / "float.onnx").logits(images), expected, rtol=0, atol=1e-3)


def test_evidence_adds_up_to_the_logit(small_checkpoint, tmp_path):
    export_onnx(small_checkpoint, tmp_path / "lfm.onnx", ExportConfig(size=64, evidence=True))
    evidence = OrtEngine(tmp_path / "lfm.onnx").evidence(sample_tiles(64, 64, 3))
    state = read_checkpoint(small_checkpoint).state
    total = evidence_contributions(evidence.values, state["fc.weight"].numpy()).sum(axis=(1, 2))
    # float32 sums in another order.
    np.testing.assert_allclose(total, evidence.logits - float(state["fc.bias"]), rtol=0, atol=1e-3)


def test_evidence_of_a_graph_without_it_names_the_option(small_graph):
    with pytest.raises(ArtifactError, match="--evidence"):
        OrtEngine(small_graph).evidence(sample_tiles(256, 256, 1))


def test_it_says_what_it_is(small_graph):
    engine = OrtEngine(small_graph)
    assert (engine.name, engine.runtime, engine.precision, engine.device) == (
        "onnxruntime fp32",
        "onnxruntime",
        Precision.FP32,
        "cpu",
    )


def test_pictures_of_another_size_are_refused(small_graph):
    with pytest.raises(ShapeError, match="expected 256x256"):
        OrtEngine(small_graph).logits(sample_tiles(128, 128, 1))


def test_asking_for_cuda_without_the_provider_is_an_error(small_graph):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has the CUDA provider")
    with pytest.raises(UnavailableError, match=r"onnxruntime-gpu"):
        OrtCudaEngine(small_graph)


def test_a_session_that_fell_back_is_an_error(small_graph, monkeypatch):
    # What onnxruntime-gpu does without a driver: it lists the provider, warns, and runs on the CPU.
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, options, providers, **_: real(path, options, providers=["CPUExecutionProvider"]),
    )
    with pytest.raises(UnavailableError, match="fell back to CPUExecutionProvider"):
        OrtCudaEngine(small_graph, device="cuda:0")


def test_cuda_is_found_beside_onnx_runtime_or_else_in_other_folders_of_python(tmp_path, monkeypatch, capfd):
    """ONNX Runtime itself looks in the folder alone that it was installed into."""
    asked = []

    def preload_dlls(directory=None):
        print("Failed to load libcudnn.so.9")
        asked.append(directory)

    target, environment = tmp_path / "target", tmp_path / "environment"
    module = SimpleNamespace(__file__=str(target / "onnxruntime" / "__init__.py"), preload_dlls=preload_dlls)
    (target / "nvidia" / "cu13" / "lib").mkdir(parents=True)  # of another library of NVIDIA's
    monkeypatch.setattr(sys, "path", [str(target), str(tmp_path / "nowhere"), str(environment)])
    folders = [environment / "nvidia" / name / "lib" for name in ("cu13", "cudnn")]
    for folder in folders:
        folder.mkdir(parents=True)
    load_cuda_libraries(module)
    assert set(map(str, folders)) <= set(asked)
    asked.clear()
    (target / "nvidia" / "cu13" / "lib" / "libcublas.so.13").touch()
    load_cuda_libraries(module)
    assert asked == [None]
    asked.clear()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "nowhere")])
    (target / "nvidia" / "cu13" / "lib" / "libcublas.so.13").unlink()
    load_cuda_libraries(module)
    assert asked == [None]
    assert capfd.readouterr().out == ""


def test_what_a_provider_raises_is_the_reason_and_nothing_is_printed(small_graph, monkeypatch, capfd):
    """What onnxruntime-gpu does with a graph that it cannot capture: it raises, and falls back unless told not to."""
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    real = onnxruntime.InferenceSession._create_inference_session

    def fail_on_cuda(session, providers, *options):
        if providers[0][0] == "CUDAExecutionProvider":
            raise RuntimeError("This session cannot use the graph capture feature\nas requested")
        real(session, providers, *options)

    monkeypatch.setattr(onnxruntime.InferenceSession, "_create_inference_session", fail_on_cuda)
    with pytest.raises(UnavailableError, match="on cuda: not run: This session cannot use the graph capture feature"):
        OrtCudaEngine(small_graph)
    assert capfd.readouterr() == ("", "")


def test_an_unknown_device_is_refused(small_graph):
    with pytest.raises(ConfigError, match="cpu, cuda or cuda:N"):
        OrtCudaEngine(small_graph, device="tpu")


def test_a_damaged_graph_is_refused(small_graph, tmp_path):
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(small_graph.read_bytes()[:-2000])
    with pytest.raises(ArtifactError, match=r"cut\.onnx"):
        OrtEngine(cut)
