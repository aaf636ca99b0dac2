"""``lfm-deploy inspect``: a line for each artifact of a workdir, what is wrong with it, and what to do next."""

import json
import shutil

import pytest

from lfm_deploy.artifacts import Precision
from lfm_deploy.cli import run
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.workdir import Workdir


@pytest.fixture
def inspect(capfd, monkeypatch, tmp_path):
    """Inspect in a folder of one's own: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def inspect(*arguments):
        code = run(["inspect", *(str(argument) for argument in arguments)])
        out, err = capfd.readouterr()
        return code, out, err

    return inspect


def rows(text):
    """Words of the table's rows, by the name of the file."""
    found = [line.split() for line in text.splitlines() if line.startswith(("  lfm.", "  r"))]
    return {words[0]: words[1:] for words in found}


def steps(text):
    return [line.removeprefix("next: ").split("  # ") for line in text.splitlines() if line.startswith("next: ")]


def test_a_workdir_shows_a_line_for_each_artifact(inspect, deployment, no_gpu):
    code, out, err = inspect(deployment.path)
    sha = sha256_of_file(deployment.checkpoint)[:8]
    assert (code, err) == (0, "")
    assert rows(out) == {
        "lfm.pth": ["checkpoint", "-", "-", sha, "yes", "current"],
        "lfm.onnx": ["graph", "fp32", "256x256", sha, "yes", "current"],
        "lfm.fp16.onnx": ["graph", "fp16", "256x256", sha, "yes", "current"],
        "lfm.fp32.sm86.engine": ["engine", "fp32", "256x256", sha, "no", "current"],
        "lfm.fp16.sm86.engine": ["engine", "fp16", "256x256", sha, "no", "current"],
    }
    assert "lfm.fp16.sm86.engine, lfm.fp32.sm86.engine: does not run here: no CUDA device" in " ".join(out.split())
    assert steps(out) == [
        [f"lfm-deploy calibrate IMAGES --workdir {deployment.path}", "INT8 needs ranges"],
        [f"lfm-deploy verify --suite SUITE --workdir {deployment.path}", "nothing is verified"],
    ]


def test_the_table_fits_80_columns(inspect, deployment):
    _, out, _ = inspect(deployment.path)
    assert max(len(line.rstrip()) for line in out.splitlines() if line.startswith("  ")) <= 80


def test_without_a_path_it_is_the_workdir_and_commands_need_no_option(inspect, own_deployment):
    code, out, _ = inspect()
    assert code == 0
    assert out.startswith("deploy")
    assert [command for command, _ in steps(out)] == [
        "lfm-deploy calibrate IMAGES",
        "lfm-deploy verify --suite SUITE",
    ]


def test_json_has_the_details_the_state_and_the_next_commands(inspect, deployment):
    code, out, err = inspect(deployment.path, "--json")
    values = json.loads(out)
    assert (code, err) == (0, "")
    assert values["workdir"] == str(deployment.path)
    graph = values["artifacts"][1]
    assert graph["file"] == str(deployment.graph(Precision.FP32))
    assert graph["made from checkpoint"] == sha256_of_file(deployment.checkpoint)
    assert (graph["state"], graph["notes"], graph["remedy"]) == ("current", [], "lfm-deploy export CHECKPOINT.pth")
    assert values["next"][-1]["command"].startswith("lfm-deploy verify --suite SUITE")


def test_an_empty_folder_is_a_workdir_that_holds_nothing_yet(inspect, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ".lock").touch()
    code, out, err = inspect("new")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "new: a workdir that holds nothing yet"
    assert steps(out) == [["lfm-deploy export CHECKPOINT.pth --workdir new", "no checkpoint was exported here"]]


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        (["notes.txt"], "run 'lfm-deploy export CHECKPOINT.pth --workdir other/deploy' to make one"),
        (["best.pth", "last.pth"], "name its files, such as 'lfm-deploy inspect other/best.pth'"),
        (["deploy/lfm.pth", "notes.txt"], "run 'lfm-deploy inspect other/deploy', which is one"),
    ],
)
def test_a_folder_that_is_no_workdir_says_so_and_what_to_do(inspect, tmp_path, files, advice):
    for name in files:
        (tmp_path / "other" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "other" / name).touch()
    code, out, err = inspect("other")
    assert (code, out) == (2, "")
    assert err.startswith("Error: other: not a workdir")
    assert err.endswith(f"{advice}\n")


def test_what_is_not_there_is_exit_2_and_the_nearest_is_offered(inspect, own_deployment):
    code, _, err = inspect("deploy/lfm.onx")
    assert (code, err) == (2, "Error: deploy/lfm.onx: no such file or folder (did you mean 'deploy/lfm.onnx'?)\n")
    assert inspect("deplyo")[2] == "Error: deplyo: no such file or folder (did you mean 'deploy'?)\n"
    assert inspect("elsewhere/lfm.onnx")[2] == "Error: elsewhere/lfm.onnx: no such file or folder\n"
    code, _, err = inspect("--workdir", "nowhere")
    assert code == 2
    assert "run 'lfm-deploy export CHECKPOINT.pth --workdir nowhere'" in err


def test_one_folder_or_files(inspect, own_deployment):
    code, _, err = inspect("deploy", "deploy/lfm.onnx")
    assert code == 2
    assert "deploy is a folder: name one folder, or files" in err


def test_a_damaged_engine_is_marked_beside_the_others(inspect, own_deployment):
    own_deployment.engine(Precision.FP16, "sm86").write_bytes(b"half of it")
    code, out, err = inspect()
    assert code == 2
    assert rows(out)["lfm.fp16.sm86.engine"] == ["engine", "-", "-", "-", "-", "damaged"]
    assert rows(out)["lfm.fp32.sm86.engine"][-1] == "current"
    assert steps(out) == [["lfm-deploy build --fp16 --gpu sm86", "lfm.fp16.sm86.engine is damaged"]]
    assert "Error: deploy: lfm.fp16.sm86.engine is damaged" in err


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("lfm.pth", "lfm-deploy export CHECKPOINT.pth"),
        ("lfm.onnx", "lfm-deploy export CHECKPOINT.pth"),
        ("lfm.fp16.onnx", "lfm-deploy build --fp16"),
        ("lfm.int8.cpu.onnx", "lfm-deploy build --int8 --target cpu"),
        ("ranges.json", "lfm-deploy calibrate IMAGES"),
        ("report.json", "lfm-deploy verify --suite SUITE"),
    ],
)
def test_each_kind_of_damaged_file_has_its_remedy(inspect, own_deployment, name, command):
    (own_deployment.path / name).write_bytes(b"{")
    code, out, _ = inspect()
    assert code == 2
    assert rows(out)[name][-1] == "damaged"
    assert command in [step for step, why in steps(out) if name in why]


def test_a_new_checkpoint_makes_the_rest_stale(inspect, own_deployment, small_config):
    from conftest import write_random_checkpoint

    write_random_checkpoint(small_config, own_deployment.checkpoint, side=64)
    code, out, _ = inspect()
    assert code == 2
    states = {name: words[-1] for name, words in rows(out).items()}
    assert states.pop("lfm.pth") == "current"
    assert set(states.values()) == {"stale"}
    assert "made from another checkpoint than deploy/lfm.pth" in " ".join(out.split())
    assert ["lfm-deploy export CHECKPOINT.pth", "lfm.onnx is stale"] in steps(out)


def test_a_new_graph_makes_its_engine_stale(inspect, own_deployment):
    shutil.copy(own_deployment.graph(Precision.FP32), own_deployment.graph(Precision.FP16))
    code, out, _ = inspect()
    assert code == 2
    assert rows(out)["lfm.fp16.sm86.engine"][-1] == "stale"
    assert "the ONNX file that it was built from has changed" in " ".join(out.split())


def test_a_graph_of_another_export_is_pointed_out(inspect, own_deployment):
    assert run(["export", str(own_deployment.checkpoint), "--size", "64"]) == 0
    _, out, _ = inspect()
    note = "lfm.fp16.onnx, lfm.fp16.sm86.engine, lfm.fp32.sm86.engine: takes 256x256 where lfm.onnx takes 64x64"
    assert note in " ".join(out.split())


def test_without_the_checkpoint_artifacts_are_shown_all_the_same(inspect, own_deployment):
    own_deployment.checkpoint.unlink()
    code, out, _ = inspect()
    assert code == 0
    assert rows(out)["lfm.onnx"][-1] == "current"
    assert steps(out) == [["lfm-deploy export CHECKPOINT.pth", "no checkpoint was exported here"]]


def test_a_missing_step_is_named(inspect, small_workdir, tmp_path):
    shutil.copytree(small_workdir.path, tmp_path / "deploy")
    assert steps(inspect()[1])[0] == ["lfm-deploy build --fp16", "there is no FP16 graph or TensorRT engine"]
    Workdir(tmp_path / "deploy").graph(Precision.FP32).unlink()
    assert steps(inspect()[1]) == [["lfm-deploy export deploy/lfm.pth", "lfm.onnx is missing"]]


def test_a_report_is_current_until_a_judged_file_changes(inspect, own_deployment, pictures):
    limits = "acc=20,ap=20,flips=20%"  # 24 pictures can show no less
    assert run(["verify", "--suite", str(pictures), "--no-speed", "--limits", limits]) == 0
    code, out, _ = inspect()
    assert code == 0
    assert rows(out)["report.json"] == ["report", "-", "-", "-", "-", "current"]
    assert "report.json: PASSED" in out
    own_deployment.engine(Precision.FP16, "sm86").unlink()
    code, out, _ = inspect()
    assert (code, rows(out)["report.json"][-1]) == (0, "stale")
    assert "lfm.fp16.sm86.engine changed since" in " ".join(out.split())
    assert ["lfm-deploy verify --suite SUITE", "report.json is stale"] in steps(out)


def test_ranges_belong_to_their_graph(inspect, small_workdir, calibration_folder, tmp_path):
    shutil.copytree(small_workdir.path, tmp_path / "deploy")
    assert run(["calibrate", str(calibration_folder), "--count", "32"]) == 0
    code, out, _ = inspect()
    sha = sha256_of_file(small_workdir.checkpoint)[:8]
    assert (code, rows(out)["ranges.json"]) == (0, ["ranges", "-", "256x256", sha, "-", "current"])
    assert ["lfm-deploy build --int8", "there is no INT8 graph"] in steps(out)
    assert run(["export", "deploy/lfm.pth", "--size", "64"]) == 0
    code, out, _ = inspect()
    assert (code, rows(out)["ranges.json"][-1]) == (2, "stale")
    assert "lfm-deploy calibrate" in dict(map(reversed, steps(out)))["ranges.json is stale"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[" * 100_000,
        '{"engines": [], "verdict": 5}',
        '{"engines": [{"file": "a"}], "verdict": {"text": "b"}}',
    ],
    ids=range(5),
)
def test_a_report_that_cannot_be_is_damaged(inspect, own_deployment, text):
    own_deployment.report.write_text(text)
    out = inspect()[1]
    assert rows(out)["report.json"][-1] == "damaged"
    assert ["lfm-deploy verify --suite SUITE", "report.json is damaged"] in steps(out)
