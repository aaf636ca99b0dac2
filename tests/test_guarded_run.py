"""Graphs that load and then fail, in every runtime and command that runs them: one line, and the right exit code."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.cpu_settings import CpuSettings
from engines.guarded_run import RunFailedError, check_logits, guard_run
from engines.ort import OrtEngine
from engines.pytorch import PyTorchEngine
from lfm_deploy.errors import ArtifactError, ShapeError
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.storage.graph_file import seal_graph


def with_tail(graph, path, operator, *values):
    """A graph whose logit goes through one more operator, whole as its seal says."""
    model = onnx.load(graph)
    output = model.graph.output[0]
    for node in model.graph.node:
        node.output[:] = ["before" if name == output.name else name for name in node.output]
    names = [f"value{index}" for index, _ in enumerate(values)]
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in zip(names, values, strict=True)
    )
    model.graph.node.append(helper.make_node(operator, ["before", *names], [output.name]))
    output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, None))
    path.write_bytes(seal_graph(model))
    return path


@pytest.fixture
def failing(small_graph, tmp_path):
    """It can be loaded, and reshapes any number of logits to 7."""
    return with_tail(small_graph, tmp_path / "lfm.onnx", "Reshape", np.array([7], np.int64))


def test_onnx_runtime_fails_in_one_line(failing):
    engine = OrtEngine(failing)
    with pytest.raises(
        RunFailedError, match=r"lfm.onnx: fails when it runs on cpu \(.*\); make it again with"
    ) as caught:
        engine.logits(sample_tiles(256, 256, 2))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_openvino_fails_in_one_line(failing):
    pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
    from engines.openvino import OpenVinoEngine

    # This graph is one that OpenVINO runs, past the end of its memory; that its answer is none has to be seen.
    engine = OpenVinoEngine(failing, CpuSettings(runtime="openvino", threads=1, streams=1, piece=8))
    with pytest.raises((RunFailedError, ArtifactError), match=r"lfm\.onnx: (fails when it runs|gives float32 \(7,\))"):
        engine.logits(sample_tiles(256, 256, 2))


def test_pytorch_fails_in_one_line(small_checkpoint):
    engine = PyTorchEngine(read_checkpoint(small_checkpoint))
    engine._model.fc.weight.data = engine._model.fc.weight.data[:, :-1]
    with pytest.raises(RunFailedError, match=r"pytorch fp32: fails when it runs on cpu \("):
        engine.logits(sample_tiles(256, 256, 1))


def test_a_column_of_logits_is_no_answer(small_graph, tmp_path):
    path = with_tail(small_graph, tmp_path / "lfm.onnx", "Unsqueeze", np.array([1], np.int64))
    with pytest.raises(ArtifactError, match=r"gives float32 \(2, 1\) for 2 pictures, expected one float32 logit each"):
        OrtEngine(path).logits(sample_tiles(256, 256, 2))


@pytest.mark.parametrize("logits", [np.zeros(3, np.float32), np.zeros(2), np.float32(1), np.zeros((2, 1), np.float32)])
def test_what_are_no_logits_of_two_pictures(logits):
    with pytest.raises(ArtifactError, match="expected one float32 logit each"):
        check_logits(np.asarray(logits), 2, "graph")


@pytest.mark.parametrize(
    "words",
    [
        "Failed to allocate memory for requested buffer of size 268435456",
        "std::bad_alloc",
        "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory",
        "CUDA out of memory. Tried to allocate 2 GiB",
    ],
)
def test_a_lack_of_memory_is_told_apart_whatever_its_class(words):
    with pytest.raises(MemoryError), guard_run("graph"):
        raise RuntimeError(words)


def test_our_own_errors_pass():
    with pytest.raises(ShapeError), guard_run("graph"):
        raise ShapeError("as it was")


def test_on_a_gpu_the_machine_is_at_fault():
    with pytest.raises(RunFailedError) as caught, guard_run("graph", "cuda:0"):
        raise RuntimeError("CUDNN_STATUS_NOT_INITIALIZED")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("command", ["predict", "verify", "bench", "build"])
def test_every_command_that_runs_a_graph_says_so(command, failing, small_checkpoint, tmp_path):
    from PIL import Image

    (tmp_path / "lfm.pth").write_bytes(small_checkpoint.read_bytes())
    for label in ("0_real", "1_fake"):
        (tmp_path / "suite" / label).mkdir(parents=True)
        Image.fromarray(sample_tiles(256, 256, 1)[0]).save(tmp_path / "suite" / label / "a.png")
    arguments = {
        "predict": [tmp_path / "suite"],
        "verify": ["--suite", tmp_path / "suite", "--no-speed"],
        "bench": ["--engine", failing, "--batch", "1", "--seconds", "0.01", "--rounds", "1", "--no-files"],
        "build": ["--fp32", "--target", "cpu"],
    }[command]
    finished = subprocess.run(
        [sys.executable, "-m", "lfm_deploy", command, *arguments, "--workdir", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in finished.stderr
    assert "fails when it runs on cpu" in " ".join((finished.stderr + finished.stdout).split())  # tables wrap
    assert finished.returncode == (1 if command == "bench" else 2), finished.stderr
