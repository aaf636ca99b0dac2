import json
import os
import signal
import threading

import pytest
from training_pictures import write_noise
from waiting import wait_for

from lfm_deploy.cli import run

RECIPE = """
resize = 40
crop = 32
epochs = 2
batch = 4
[model]
widths = [4, 8]
projection = 4
k = 4
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_noise(tmp_path_factory.mktemp("data"), ("car", "cat"), train=2)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(RECIPE)
    return tmp_path


def test_a_recipe_is_trained_and_deployable(here, data, capfd):
    assert run(["train", "--recipe", "tiny.toml", "--data", str(data), "--classes", "car", "--device", "cpu"]) == 0
    out, err = capfd.readouterr()
    assert "tiny: 2 epochs" in out
    assert "best.pth" in out
    assert "validation AP %" in out
    assert "epoch   2   loss" in err
    assert "next: lfm-deploy export run/best.pth" in err
    assert run(["inspect", "run/best.pth", "--json"]) == 0
    (about,) = json.loads(capfd.readouterr().out)
    assert about["recipe"]["classes"] == ["car"]
    assert run(["train", "--recipe", "tiny.toml", "--data", str(data)]) == 2
    assert "Error: run: holds a run; go on with --resume run" in capfd.readouterr().err
    assert run(["train", "--resume", "run", "--device", "cpu", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["epochs"] == 2


def test_ctrl_c_saves_and_says_how_to_go_on(here, data, capfd):
    def interrupt():
        wait_for((here / "stopped" / "state.pth").exists)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    before = signal.getsignal(signal.SIGINT)
    arguments = ["train", "--recipe", "tiny.toml", "--data", str(data), "--classes", "all", "--epochs", "100000"]
    arguments += ["--output", "stopped", "--save-steps", "1", "--device", "cpu"]
    assert run(arguments) == 130
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
    assert "and saved; go on with 'lfm-deploy train --resume stopped'" in capfd.readouterr().err


def test_recipes_are_listed(capfd):
    assert run(["train", "--list"]) == 0
    assert "table4_tkp_rbld_rks" in capfd.readouterr().out
    assert run(["train", "--list", "--json"]) == 0
    assert "demo" in json.loads(capfd.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "papers"], "no recipe 'papers'"),
        (["--recipe", "tiny.toml"], "give --data"),
        (["--recipe", "tiny.toml", "--data", "nowhere"], "nowhere: no such folder"),
        (["--recipe", "tiny.toml", "--data", "DATA", "--classes", "horse"], "no category horse"),
        (["--recipe", "tiny.toml", "--data", "DATA", "--epochs", "0"], "epochs is 0"),
        (["--recipe", "tiny.toml", "--data", "DATA", "--device", "tpu"], "devices are cpu"),
        (["--recipe", "unknown.toml", "--data", "DATA"], "unknown key 'epoch'"),
        (["--recipe", "large.toml", "--data", "DATA"], "k is 400, more than the 196 positions"),
        (["--resume", "nowhere"], "nowhere/state.pth: no such file"),
        (["--resume", "run", "--epochs", "3"], "leave --epochs out"),
    ],
)
def test_wrong_usage_is_told_in_one_line(here, data, capfd, arguments, message):
    (here / "unknown.toml").write_text(RECIPE.replace("epochs", "epoch"))
    (here / "large.toml").write_text(RECIPE.replace("k = 4", "k = 400"))
    assert run(["train", *(str(data) if argument == "DATA" else argument for argument in arguments)]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("Error")]
    assert message in line
    assert not (here / "run").exists(), "nothing was begun"
