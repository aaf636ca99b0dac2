import multiprocessing

import pytest
import torch

from engines.builder import BuildConfig
from engines.gpus import Gpu
from engines.library import load_library
from export.graph import ExportConfig
from lfm_deploy.artifacts import InputForm, Precision, read_graph_info
from lfm_deploy.deployment.deployment import (
    DEFAULT_GPUS,
    BuildTarget,
    build_into,
    choose_target,
    export_into,
    make_typed_graph,
)
from lfm_deploy.engine_info import read_engine_info
from lfm_deploy.errors import ArtifactError, CheckpointError, GateError, UnavailableError
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.workdir import Workdir


def ignore(message):
    pass


@pytest.fixture
def one_size(monkeypatch):
    """Graphs of native size are proved at one small size; the proof has tests of its own."""
    monkeypatch.setattr("export.proof._native_sizes", lambda config: [(64, 96)])


def test_export_keeps_the_checkpoint_byte_for_byte(deployment, small_checkpoint):
    assert deployment.checkpoint.read_bytes() == small_checkpoint.read_bytes()
    assert read_graph_info(deployment.graph(Precision.FP32)).checkpoint_sha256 == sha256_of_file(small_checkpoint)


def test_of_a_wrapped_checkpoint_the_workdir_holds_what_was_taken(official_checkpoint, tmp_path):
    state = torch.load(official_checkpoint, map_location="cpu", weights_only=True)
    torch.save({"model": state, "ema": state | {"fc1.bias": state["fc1.bias"] + 1}}, tmp_path / "epoch9.pth.tar")
    workdir, messages = Workdir(tmp_path / "deploy"), []
    export_into(workdir, tmp_path / "epoch9.pth.tar", ExportConfig(), messages.append, ema=True)
    assert messages == [
        f"{tmp_path / 'epoch9.pth.tar'}: took key 'ema', which averages weights, not what stands under key 'model'"
    ]
    copy = read_checkpoint(workdir.checkpoint)
    assert torch.equal(copy.state["fc.bias"], state["fc1.bias"] + 1)
    assert copy.recipe["taken from"] == sha256_of_file(tmp_path / "epoch9.pth.tar")
    assert read_graph_info(workdir.graph(Precision.FP32)).checkpoint_sha256 == sha256_of_file(workdir.checkpoint)


def test_a_failed_export_changes_nothing(own_deployment, tmp_path, monkeypatch):
    before = {path.name: path.read_bytes() for path in own_deployment.path.iterdir()}
    (tmp_path / "bad.pth").write_bytes(b"PK nothing")
    with pytest.raises(CheckpointError):
        export_into(own_deployment, tmp_path / "bad.pth", ExportConfig(), ignore)

    def refuse(*_):
        raise GateError("refused")

    monkeypatch.setattr("export.exporter.prove_graph", refuse)
    with pytest.raises(GateError):
        export_into(own_deployment, own_deployment.checkpoint, ExportConfig(), ignore)
    assert {path.name: path.read_bytes() for path in own_deployment.path.iterdir()} == before


def test_the_typed_graph_is_the_variant_that_was_exported(small_checkpoint, tmp_path, one_size):
    workdir = Workdir(tmp_path)
    export_into(workdir, small_checkpoint, ExportConfig(size="native", input=InputForm.FLOAT, evidence=True), ignore)
    info = read_graph_info(make_typed_graph(workdir, Precision.FP16, ignore))
    assert (info.contract.size, info.input, info.evidence, info.precision) == ("native", "float", True, "fp16")


def test_a_typed_graph_is_reused_until_it_is_stale(own_deployment, small_checkpoint):
    messages = []
    path = make_typed_graph(own_deployment, Precision.FP16, messages.append)
    assert messages == []
    export_into(own_deployment, small_checkpoint, ExportConfig(size=64, evidence=True), ignore)
    assert read_graph_info(make_typed_graph(own_deployment, Precision.FP16, messages.append)).evidence
    assert "proved" in messages[0]
    path.write_bytes(path.read_bytes()[:-9])
    make_typed_graph(own_deployment, Precision.FP16, messages.append)
    assert read_graph_info(path).evidence


def test_building_before_exporting_names_the_command(tmp_path):
    target = BuildTarget(load_library("tensorrt-rtx"), ("sm86",), "")
    with pytest.raises(ArtifactError, match=r"lfm-deploy export CHECKPOINT\.pth"):
        build_into(Workdir(tmp_path / "none"), Precision.FP16, target, BuildConfig(), on_message=ignore)
    assert not (tmp_path / "none").exists()


def test_a_graph_of_another_checkpoint_is_not_built(own_deployment, other_checkpoint):
    own_deployment.checkpoint.write_bytes(other_checkpoint.read_bytes())
    with pytest.raises(ArtifactError, match="another checkpoint"):
        make_typed_graph(own_deployment, Precision.FP16, ignore)


def test_native_engines_know_their_largest_side(small_checkpoint, tmp_path, one_size):
    workdir = Workdir(tmp_path)
    export_into(workdir, small_checkpoint, ExportConfig(size="native"), ignore)
    target = BuildTarget(load_library("tensorrt-rtx"), ("sm89",), "")
    config = BuildConfig(batch=(1, 2, 4), max_side=512)
    (built,) = build_into(workdir, Precision.FP16, target, config, on_message=ignore)
    info = read_engine_info(built.engine)
    assert info.sides == (info.config.min_square, 256, 512)


def test_without_a_gpu_engines_are_built_ahead_of_time(no_gpu):
    chosen = choose_target(None, None)
    assert (chosen.library.name, chosen.gpus) == ("tensorrt-rtx", DEFAULT_GPUS)
    assert choose_target(["sm75"], None).gpus == ("sm75",)


def test_a_card_that_nothing_builds_for_is_refused_before_anything_is_built(no_gpu, monkeypatch):
    with pytest.raises(UnavailableError, match=r"cannot build for sm90; .*lfm-deploy build --fp16 --target cuda"):
        choose_target(["sm86", "sm90"], None)
    hopper = Gpu(index=0, name="NVIDIA H100", sm="sm90")
    monkeypatch.setattr("lfm_deploy.deployment.deployment.find_gpu", lambda: hopper)
    with pytest.raises(UnavailableError, match=r"cannot build for sm90; .*lfm-deploy build --fp16 --target cuda"):
        choose_target(None, "tensorrt-rtx")


def test_without_a_gpu_tensorrt_itself_cannot_build(no_gpu):
    with pytest.raises(UnavailableError, match="tensorrt builds only on the GPU"):
        choose_target(None, "tensorrt")


def build_until(path, started, enough):
    with Workdir(path).lock(ignore):
        started.set()
        enough.wait(60)


def test_a_second_build_waits_and_says_so(own_deployment):
    context = multiprocessing.get_context("spawn")
    started, enough = context.Event(), context.Event()
    first = context.Process(target=build_until, args=(own_deployment.path, started, enough))
    first.start()
    assert started.wait(60)
    messages = []

    def hear(message):
        messages.append(message)
        enough.set()

    target = BuildTarget(load_library("tensorrt-rtx"), ("sm86",), "")
    build_into(own_deployment, Precision.FP16, target, BuildConfig(batch=(1, 2, 4)), on_message=hear)
    first.join()
    assert f"another lfm-deploy (process {first.pid}) is writing here; waiting" in messages[0]
    assert read_engine_info(own_deployment.engine(Precision.FP16, "sm86")).batch == (1, 2, 4)
