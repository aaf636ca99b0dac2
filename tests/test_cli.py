"""The command line as people and scripts meet it: exit codes, streams, one line for each thing that is wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from waiting import wait_for

from lfm_deploy.artifacts import Precision
from lfm_deploy.cli import run
from lfm_deploy.storage.graph_file import seal_graph


@pytest.fixture
def call(capfd, monkeypatch, tmp_path):
    """Run the command line in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return call


def says(result, code, *parts):
    """The exit code, and one line on stderr that begins with Error and holds the parts."""
    found, out, err = result
    assert found == code, err
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert "Traceback" not in err
    for part in parts:
        assert part in line


def test_the_chain_in_three_commands(call, small_checkpoint, pictures, tmp_path, no_gpu):
    code, out, _ = call("export", small_checkpoint)
    assert code == 0
    assert "proof: ONNX Runtime against the published forward pass" in out
    code, out, err = call("build", "--fp16", "--gpu", "RTX A6000,sm89")
    assert code == 0
    assert "lfm.fp16.sm86.engine" in out
    assert "lfm.fp16.sm89.engine" in out
    assert "building ahead of time" in err
    limits = "acc=20,ap=20,flips=20%"  # 24 pictures can show no less
    code, out, err = call("verify", "--suite", pictures, "--no-speed", "--limits", limits)
    assert code == 0
    assert "PASSED on CPU: 2 of 4 engines hold their gates; 2 not run" in out
    assert "not run, no CUDA device" in out
    assert "taking lfm.pth, lfm.onnx, lfm.fp16.onnx" in err
    report = json.loads((tmp_path / "deploy" / "report.json").read_text())
    assert report["verdict"]["passed"]
    assert report["verdict"]["not_run"] == ["tensorrt-rtx fp16 sm86", "tensorrt-rtx fp16 sm89"]
    assert len((tmp_path / "deploy" / "scores.csv").read_text().splitlines()) == 1 + 3 * 24


def test_json_is_all_that_json_prints(call, deployment, pictures, small_checkpoint):
    code, out, _ = call("export", small_checkpoint, "--evidence", "--json")
    assert (code, json.loads(out)["opset"] >= 19) == (0, True)
    code, out, _ = call("build", "--fp32", "--gpu", "sm120", "--batch", "1,2,4", "--json")
    assert (code, json.loads(out)[0]["gpu"], json.loads(out)[0]["batch"]) == (0, "sm120", [1, 2, 4])
    code, out, _ = call("verify", "--suite", pictures, "--no-speed", "--json")
    values = json.loads(out)
    assert (code, values["suites"][0]["name"], values["format"]) == (0, "suite", "lfm-deploy report 4")
    assert values["environment"]["libraries"]["torch"]
    code, out, _ = call("suites", "--json")
    assert (code, len(json.loads(out))) == (0, 5)
    code, out, _ = call("inspect", "--json")
    kinds = [entry["kind"].split()[0] for entry in json.loads(out)["artifacts"]]
    assert (code, kinds) == (0, ["checkpoint,", "ONNX", "engine", "report"])


def test_brackets_stay_text(call):
    code, out, _ = call("suites")
    assert code == 0
    assert "<test set>/[category/]{0_real,1_fake}/" in out


@pytest.mark.usefixtures("own_tile_workdir", "quick_choice")
def test_the_target_cpu_is_the_typed_graph_alone(call, tmp_path):
    code, out, _ = call("build", "--fp16", "--target", "cpu")
    assert (code, "lfm.fp16.onnx" in out) == (0, True)
    assert not list((tmp_path / "deploy").glob("*.engine"))


def test_a_broken_gate_is_exit_1_and_says_which(call, own_deployment, pictures):
    import onnx

    for engine in own_deployment.engines():
        engine.unlink()
    path = own_deployment.graph(Precision.FP32)
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if "head.bias" in t.name)
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 100, tensor.name))
    path.write_bytes(seal_graph(model))
    code, out, _ = call("verify", "--suite", pictures, "--no-speed", "--workdir", own_deployment.path)
    assert code == 1
    assert "FAILED on CPU: onnxruntime fp32 broke a gate" in out
    assert "flipped decisions is" in out
    assert ".png" in out
    assert not json.loads(own_deployment.report.read_text())["verdict"]["passed"]


def test_where_nothing_could_run_nothing_passed(call, own_deployment, pictures, no_gpu):
    for graph in own_deployment.graphs():
        graph.unlink()
    code, out, _ = call("verify", "--suite", pictures, "--no-speed", "--workdir", own_deployment.path)
    assert code == 3
    assert "NOTHING VERIFIED on CPU: no engine could run; 2 not run" in out
    assert not json.loads(own_deployment.report.read_text())["verdict"]["passed"]


def test_bad_checkpoints(call, tmp_path, small_checkpoint):
    says(call("export", "none.pth"), 2, "none.pth", "no such file")
    (tmp_path / "empty.pth").touch()
    says(call("export", "empty.pth"), 2, "empty")
    (tmp_path / "cut.pth").write_bytes(small_checkpoint.read_bytes()[:5000])
    says(call("export", "cut.pth"), 2, "damaged")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    says(call("export", "other.pth"), 2, "expected LFM (cnn.layer1.0.weight", "or NPR (conv1.weight", "found weight")
    assert not (tmp_path / "deploy").exists()


@pytest.mark.parametrize("size", ["255", "8", "0", "-2"])
def test_bad_sizes(call, small_checkpoint, tmp_path, size):
    says(call("export", small_checkpoint, "--size", size), 2)
    assert not (tmp_path / "deploy").exists()


def test_bad_usage(call, small_checkpoint):
    for arguments in (
        ["build"],
        ["build", "--fp16", "--batch", "4"],
        ["build", "--int4"],
        ["verify"],
        ["export"],
        ["nonsense"],
        ["export", small_checkpoint, "--size", "128", "--dynamic-size"],
        ["build", "--fp16", "--target", "cpu", "--gpu", "sm86"],
    ):
        code, out, err = call(*arguments)
        assert (code, out) == (2, "")
        assert "Traceback" not in err


def test_bad_builds(call, deployment):
    workdir = ["--workdir", deployment.path]
    says(call("build", "--fp16"), 2, "lfm-deploy export CHECKPOINT.pth")
    says(call("build", "--fp16", "--gpu", "toaster", *workdir), 2, "'toaster'")
    says(call("build", "--fp16", "--batch", "8,4,2", *workdir), 2, "MIN <= OPT <= MAX")
    says(call("build", "--fp16", "--gpu", "H100", *workdir), 3, "cannot build for sm90")
    # Before the ranges are missed, which the search for layers would need.
    says(call("build", "--int8", "--gpu", "RTX A6000,H100", *workdir), 3, "lfm-deploy build --fp16 --target cuda")


def test_tensorrt_itself_without_a_gpu_is_exit_3(call, deployment, no_gpu):
    result = call("build", "--fp16", "--library", "tensorrt", "--workdir", deployment.path)
    says(result, 3, "tensorrt builds only on the GPU")


def test_bad_suites(call, deployment, tmp_path):
    workdir = ["--workdir", deployment.path]
    says(call("verify", "--suite", "toasters", *workdir), 2, "neither a folder nor a suite")
    says(call("verify", "--suite", "diffusion", "--data", tmp_path, *workdir), 2, "missing adm, ddpm")
    (tmp_path / "one" / "0_real").mkdir(parents=True)
    says(call("verify", "--suite", "one", *workdir), 2, "no picture")
    (tmp_path / "one" / "0_real" / "a.png").write_bytes(b"x")
    says(call("verify", "--suite", "one", *workdir), 2, "none in 1_fake/", "average precision is undefined")


def test_verify_without_an_export(call, pictures):
    says(call("verify", "--suite", pictures), 2, "lfm-deploy export CHECKPOINT.pth")


def test_a_refused_command_leaves_no_workdir_that_is_new_and_one_that_was_there_as_it_was(call, pictures, tmp_path):
    commands = [["verify", "--suite", pictures]] + [["build", name, "--target", "cpu"] for name in ("--fp32", "--fp16")]
    for command in commands:
        says(call(*command, "--workdir", "new/deploy"), 2, "lfm-deploy export CHECKPOINT.pth --workdir new/deploy")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "deploy").mkdir()
    for command in commands:
        says(call(*command), 2, "lfm-deploy export CHECKPOINT.pth --workdir deploy")
    assert list((tmp_path / "deploy").iterdir()) == []


def test_cuda_without_a_gpu_is_exit_3(call, deployment, pictures, no_gpu):
    result = call("verify", "--suite", pictures, "--device", "cuda", "--workdir", deployment.path)
    says(result, 3, "no CUDA device")


def test_inspect_says_whether_it_can_run_here(call, deployment, no_gpu, tmp_path):
    code, out, _ = call("inspect", deployment.engine(Precision.FP16, "sm86"))
    assert code == 0
    assert "no: no CUDA device" in out
    says(call("inspect", "none.onnx"), 2, "no such file")
    (tmp_path / "x.txt").touch()
    says(call("inspect", "x.txt"), 2, "known kind")


@pytest.fixture
def exported(own_tile_workdir, quick_choice):
    """What 'export CHECKPOINT --size 64' made, in the folder ``deploy``."""


WIDE = ("--budget", "acc=9,ap=9,flips=9%")


def test_int8_from_pictures_to_engines(call, exported, calibration_folder, tmp_path):
    says(call("build", "--int8"), 2, "ranges.json", "run 'lfm-deploy calibrate IMAGES' first")
    code, out, err = call("calibrate", calibration_folder)
    assert code == 0
    assert "96 pictures (48 real, 48 fake)" in out
    assert "Warning: 96 pictures are few" in err
    code, out, _ = call("build", "--int8", "--gpu", "sm86", *WIDE)
    assert code == 0
    assert "in the fastest choice that holds the budget" in out
    assert "INT8 on 96 pictures of 4 sources, each left out in turn: flips" in out
    assert "lfm.int8.sm86.engine" in out
    code, out, _ = call("build", "--int8", "--target", "cpu", "--json", *WIDE)
    values = json.loads(out)
    assert (code, values["quantisation"]["recipe"], values["file"]) == (0, "cpu", "deploy/lfm.int8.cpu.onnx")
    code, out, err = call("build", "--int8", "--target", "cpu", *WIDE)
    assert (code, "kept" in err) == (0, True)
    code, out, _ = call("inspect")
    assert code == 0
    assert "within its budget acc=9,ap=9,flips=9%" in " ".join(out.split())
    names = {path.name for path in (tmp_path / "deploy").iterdir()}
    assert {"ranges.json", "precision.json", "lfm.int8.onnx", "lfm.int8.cpu.onnx", "lfm.int8.sm86.engine"} <= names


def test_a_budget_that_nothing_meets_is_exit_1_with_the_table_and_no_file(call, exported, calibration_folder, tmp_path):
    call("calibrate", calibration_folder)
    before = {path.name for path in (tmp_path / "deploy").iterdir()}
    for target, text in (("gpu", "even the fp16 graph breaks the budget"), ("cpu", "no choice of INT8 layers holds")):
        code, out, err = call("build", "--int8", "--target", target, "--budget", "acc=0,ap=0,flips=0%")
        assert code == 1
        assert "conv1" in out
        assert "outside the budget" in out
        assert text in err
        assert "ship FP16" in err or "ship FP32" in err
        assert {path.name for path in (tmp_path / "deploy").iterdir()} == before
    code, out, err = call("build", "--int8", "--target", "cpu", "--budget", "acc=0,ap=0,flips=0%", "--json")
    assert (code, out) == (1, "")


def test_int8_outside_its_budget_is_marked_and_verify_fails_it(
    call, small_workdir, calibration_folder, tmp_path, no_gpu
):
    from PIL import Image

    from lfm_deploy.pictures.photographs import sample_tiles

    shutil.copytree(small_workdir.path, tmp_path / "deploy")  # of 256 pixels, as verify needs it
    for index, tile in enumerate(sample_tiles(256, 256, 4)):
        home = tmp_path / "suite" / ("0_real", "1_fake")[index % 2]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tile).save(home / f"{index}.png")
    call("calibrate", calibration_folder, "--count", "32")
    budget = ("--layers", "all", "--budget", "acc=0,ap=0,flips=0")
    code, out, err = call("build", "--int8", "--gpu", "sm86", *budget)
    assert code == 0
    assert "outside the budget" in out
    assert "breaks the budget acc=0,ap=0,flips=0%; it is marked, and verify fails it" in err
    code, out, _ = call("verify", "--suite", "suite", "--no-speed")
    assert code == 1
    assert (
        "onnxruntime int8 tensorrt: gate fails: suite: built outside its budget (--layers all) is 1, allowed 0" in out
    )
    assert "tensorrt-rtx int8 sm86 (built outside its budget)" in " ".join(out.split())
    assert "OUTSIDE its budget" in " ".join(call("inspect")[1].split())


def test_stale_ranges_are_exit_2_with_the_command(call, exported, calibration_folder, other_checkpoint):
    call("calibrate", calibration_folder, "--count", "40", "--seed", "3")
    assert call("export", other_checkpoint, "--size", "64")[0] == 0
    says(
        call("build", "--int8"),
        2,
        "ranges.json: stale: they were measured with another checkpoint; run 'lfm-deploy calibrate",
        "--count 40 --seed 3' again",
    )


def test_bad_calibrations(call, exported, tmp_path):
    says(call("calibrate", "none"), 2, "none: no such folder")
    (tmp_path / "empty").mkdir()
    says(call("calibrate", "empty"), 2, "no picture in it")
    says(call("calibrate", "empty", "--count", "5"), 2, "need at least 32")
    (tmp_path / "few").mkdir()
    shutil.copy(Path(__file__), tmp_path / "few" / "text.png")
    says(call("calibrate", "few"), 2, "few: 0 pictures can be used", "at least 32")
    says(call("calibrate", "few", "--workdir", "nowhere"), 2, "nothing has been exported here")
    assert not (tmp_path / "deploy" / "ranges.json").exists()


def test_bad_int8_usage(call, exported, calibration_folder):
    call("calibrate", calibration_folder)
    says(call("build", "--int8", "--budget", "loss=1"), 2, "cannot read 'loss=1'", "such as acc=0.2")
    says(call("build", "--int8", "--layers", "conv9", "--target", "cpu"), 2, "no layer 'conv9'")
    for arguments in (["--fp16", "--budget", "acc=1"], ["--fp32", "--layers", "all"], ["--fp16", "--images", "."]):
        code, _, err = call("build", *arguments)
        assert code == 2
        assert "are for --int8" in err


def loads_the_library(process, _):
    return "libtensorrt_rtx" in Path(f"/proc/{process.pid}/maps").read_text()


@pytest.mark.parametrize(
    ("has_come", "codes"),
    # The signal itself: while Python is still starting. 0: the build had just finished.
    [
        pytest.param(lambda *_: True, (-signal.SIGINT, 130), id="as it starts"),
        pytest.param(loads_the_library, (130,), id="as it loads the library"),
        pytest.param(lambda _, folder: len(list(folder.glob("*.engine"))) >= 1, (130, 0), id="with an engine"),
        pytest.param(lambda _, folder: len(list(folder.glob("*.engine"))) >= 2, (130, 0), id="with two of three"),
    ],
)
def test_an_interrupt_never_leaves_half_an_engine(deployment, tmp_path, has_come, codes):
    """Ctrl-C at several moments of a real build: an engine is there with its sidecar, or neither is."""
    folder = tmp_path / "deploy"
    shutil.copytree(deployment.path, folder, ignore=shutil.ignore_patterns("*.engine*", "*.log"))
    command = [sys.executable, "-m", "lfm_deploy", "build", "--fp16", "--gpu", "sm86,sm89,sm120"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    wait_for(lambda: process.poll() is not None or has_come(process, folder))
    process.send_signal(signal.SIGINT)
    assert process.wait(60) in codes
    engines = {path.name for path in folder.glob("*.engine")}
    sidecars = {path.name.removesuffix(".json") for path in folder.glob("*.engine.json")}
    assert engines == sidecars


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["exprot"], "No such command 'exprot'. Did you mean 'export'?"),
        (["toaster"], "No such command 'toaster'."),
        (["--vresion"], "No such option '--vresion'. Did you mean '--version'?"),
        (["export", "--evidnce", "x.pth"], "No such option '--evidnce'. Did you mean '--evidence'?"),
        (["export", "--jsn=1", "x.pth"], "No such option '--jsn'. Did you mean '--json'?"),
        (["build", "-fp16"], "No such option '-fp16'. Did you mean '--fp16'?"),
        (["build", "-p"], "No such option '-p'."),
        (["bench", "--batches", "1"], "No such option '--batches'. Did you mean '--batch'?"),
        (
            ["predict", "x.png", "--format", "jsn"],
            "'jsn' is not one of 'table', 'csv', 'jsonl', 'parquet'. Did you mean 'jsonl'?",
        ),
        (["build", "--target", "toaster"], "'toaster' is not one of 'gpu', 'cpu', 'cuda'."),
        (["suites", "--size", "nativ"], "'nativ' is not one of '256', 'native'. Did you mean 'native'?"),
    ],
)
def test_a_mistyped_word_is_told_the_nearest(call, arguments, message):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.splitlines()[0].startswith("Usage: lfm-deploy")
    assert err.splitlines()[-1].endswith(message)


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["suites", "difusion"], "'diffusion'"),
        (["build", "--fp16", "--gpu", "RTX A600"], "'RTX A6000'"),
        (["train", "--recipe", "papr"], "'paper'"),
    ],
)
def test_a_mistyped_name_is_told_the_nearest_and_all_there_are(call, arguments, nearest):
    says(call(*arguments), 2, f"(did you mean {nearest}?)")
