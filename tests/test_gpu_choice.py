import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from engines import gpu_choice
from engines.gpu_choice import choose_gpu_settings, list_ways, open_compiled, open_way
from engines.gpu_settings import PLAIN, GpuSettings, find_settings
from engines.guarded_run import RunFailedError
from engines.memory import CudaError
from engines.ort import OrtEngine
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.deployment.deployment import make_typed_graph
from lfm_deploy.errors import ArtifactError, GateError, UnavailableError
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.workdir import Workdir

CARD = {"gpu": "a card", "sm": "sm90", "driver": 1, "versions": {}}
FUSED = GpuSettings(runtime="fused")
COMPILED = GpuSettings(runtime="pytorch")
CAPTURED = GpuSettings(runtime="onnxruntime", piece=128, nhwc=True, cuda_graph=True)


class Stub:
    """The graph's logits on the CPU, a little off in one run or in all; or a failure in one of its runs."""

    def __init__(self, exact, off, run=None):
        self._exact, self._off, self._run, self.runs, self.closed = exact, off, run, 0, False

    def logits(self, images):
        self.runs += 1
        here = self._run in (None, self.runs)
        if isinstance(self._off, Exception) and here:
            raise self._off
        return self._exact + np.float32(self._off if here else 0)

    def close(self):
        self.closed = True


@pytest.fixture
def choose(own_deployment, monkeypatch):
    """Choose with ways that run on the CPU in place of a card.

    ``ways`` says how far each is from the graph (0 by default), None where it cannot run, or a pair of that or a
    failure and the number of the run where it shows.
    """
    monkeypatch.setattr(gpu_choice, "describe_card", lambda _: CARD)
    monkeypatch.setattr(gpu_choice, "_PICTURES", 4)
    graph = own_deployment.graph(Precision.FP16)
    exact, opened = OrtEngine(graph).logits(sample_tiles(256, 256, 4)), {}

    def choose(ways, others=0.0):
        def open_way(path, device, settings):
            off = ways.get(settings, others)
            if off is None:
                raise UnavailableError(f"{settings}: not run: not there")
            opened[settings] = Stub(exact, *(off if isinstance(off, tuple) else (off,)))
            return opened[settings]

        monkeypatch.setattr(gpu_choice, "open_way", open_way)
        return choose_gpu_settings(own_deployment, graph, rounds=2, seconds=0.001)

    choose.opened = opened
    yield choose
    assert all(engine.closed for engine in opened.values())


def reasons(choice):
    return {trial.settings: trial.rejected for trial in choice.tried if trial.fps is None}


def test_ways_are_all_different_and_the_plain_one_is_first():
    ways = list_ways()
    assert ways[0] == PLAIN
    assert len(set(ways)) == len(ways)
    assert {way.runtime for way in ways} == {"onnxruntime", "pytorch", "fused"}
    asked = [way.provider_options for way in ways if way.runtime == "onnxruntime"]
    for option, values in {
        "prefer_nhwc": {None, "1"},
        "fuse_conv_bias": {None, "1"},
        "cudnn_conv_algo_search": {"EXHAUSTIVE", "HEURISTIC"},
        "cudnn_conv_use_max_workspace": {"1"},
        "enable_cuda_graph": {None, "1"},
    }.items():
        assert {options.get(option) for options in asked} == values


def test_what_is_too_far_from_the_graph_is_refused_and_all_is_written_down(choose, own_deployment):
    nhwc = replace(CAPTURED, cuda_graph=False)
    choice = choose({PLAIN: 0.05, nhwc: 0.3, CAPTURED: float("nan"), FUSED: -0.1})
    assert {way: reason.partition(" by up to")[0] for way, reason in reasons(choice).items()} == {
        nhwc: "not exact enough: logits differ",
        CAPTURED: "not exact enough: logits differ",
    }
    assert {trial.settings for trial in choice.tried if trial.fps is not None} == set(list_ways()) - {nhwc, CAPTURED}
    values = json.loads((own_deployment.path / "gpu.json").read_text())
    assert values["machine"] == CARD
    assert values["graphs"]["lfm.fp16.onnx"]["chosen"] == choice.chosen.as_dict()
    assert len(values["graphs"]["lfm.fp16.onnx"]["tried"]) == len(list_ways())


@pytest.mark.parametrize("run", [1, 2, 3, 4])
def test_logits_of_a_captured_run_and_of_its_replay_are_compared_too(choose, run):
    choice = choose({CAPTURED: (0.5, run)})
    assert list(reasons(choice)) == [CAPTURED]
    assert "logits differ by up to 0.5" in reasons(choice)[CAPTURED]


@pytest.mark.parametrize("run", [1, 2, 4])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RunFailedError("lfm.onnx", "capture failed", "cuda", "run it plainly"), "fails when it runs on cuda"),
        (MemoryError("no room"), "too little memory beside the other ways (no room)"),
        (CudaError("a launch that failed"), "a launch that failed"),
        (UnavailableError("not run: torch.compile failed"), "torch.compile failed"),
        (RuntimeError("Failed to find C compiler.\nSet CC"), "not run: RuntimeError: Failed to find C compiler."),
    ],
)
def test_a_way_that_fails_is_left_out_with_its_reason_whenever_it_does(choose, error, said, run):
    choice = choose({CAPTURED: (error, run), PLAIN: (error, run)})
    found = reasons(choice)
    assert set(found) == {CAPTURED, PLAIN}
    assert said in found[CAPTURED]
    assert "\n" not in found[CAPTURED]


def test_a_damaged_graph_is_nobodys_way(choose):
    with pytest.raises(ArtifactError, match="damaged"):
        choose({CAPTURED: (ArtifactError("lfm.onnx: damaged"), 2)})


def test_without_onnx_runtime_on_the_card_the_kernels_are_the_way(choose):
    choice = choose({FUSED: 0.05}, others=None)
    assert choice.chosen == FUSED
    assert "not run: not there" in reasons(choice)[COMPILED]


def test_where_no_way_runs_the_first_says_why(choose):
    with pytest.raises(UnavailableError, match="ONNX Runtime, 32 pictures at a time: not run"):
        choose({}, others=None)


@pytest.mark.parametrize("off", [1, (RunFailedError("x", "gone", "cuda", "leave it"), 4)])
def test_where_no_way_is_exact_or_lasts_nothing_is_chosen(choose, own_deployment, off):
    with pytest.raises(GateError, match="no way to run it is exact enough: ONNX Runtime, 32"):
        choose({}, others=off)
    assert not (own_deployment.path / "gpu.json").exists()


def test_the_checkpoint_beside_the_graph_runs_it_compiled_with_its_contract(own_deployment, monkeypatch):
    asked = {}
    monkeypatch.setattr(
        "engines.pytorch.PyTorchEngine.from_file", lambda path, **options: asked.update(path=path, **options)
    )
    graph = own_deployment.graph(Precision.FP16)
    open_way(graph, "cuda:1", COMPILED)
    assert asked == {
        "path": own_deployment.checkpoint,
        "device": "cuda:1",
        "precision": "fp16",
        "compiled": True,
        "contract": read_graph_info(graph).contract,
    }


def test_no_other_checkpoint_runs_for_a_graph(own_deployment):
    graph = own_deployment.graph(Precision.FP16)
    own_deployment.checkpoint.write_bytes(b"another")
    with pytest.raises(UnavailableError, match=r"not run by PyTorch: the checkpoint .* not beside it as lfm\.pth"):
        open_compiled(graph, "cuda")
    own_deployment.checkpoint.unlink()
    with pytest.raises(UnavailableError, match="not beside it"):
        open_compiled(graph, "cuda")


def test_what_pytorch_does_not_compute_it_does_not_run(own_deployment, monkeypatch):
    graph = own_deployment.graph(Precision.FP16)
    info = read_graph_info(graph)
    for changed, said in (
        (replace(info, precision=Precision.INT8), "fp32 or fp16, not int8"),
        (replace(info, contract=replace(info.contract, size="native")), "pictures of one size"),
    ):
        monkeypatch.setattr(gpu_choice, "read_graph_info", lambda _, changed=changed: changed)
        with pytest.raises(UnavailableError, match=said):
            open_compiled(graph, "cuda")


def test_without_a_gpu_every_way_says_so_in_one_line(own_deployment, no_gpu):
    for way in list_ways():
        with pytest.raises(UnavailableError, match="not run") as caught:
            open_way(own_deployment.graph(Precision.FP16), "cuda", way)
        assert "\n" not in str(caught.value)


def test_on_a_real_gpu_a_choice_is_made_and_used(gpu, small_workdir, tmp_path):
    shutil.copytree(small_workdir.path, tmp_path / "deploy")  # without TensorRT's engines, which not every card runs
    workdir = Workdir(tmp_path / "deploy")
    graph = make_typed_graph(workdir, Precision.FP16, lambda _: None)
    choice = choose_gpu_settings(workdir, graph, rounds=1, seconds=0.01)
    assert find_settings(graph, "cuda") == choice.chosen
    engine, images = open_way(graph, "cuda", choice.chosen), sample_tiles(256, 256, 3)
    np.testing.assert_allclose(engine.logits(images), OrtEngine(graph).logits(images), rtol=0, atol=0.2)
    engine.close()
