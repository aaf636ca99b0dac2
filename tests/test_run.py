"""Whole runs on tiny data: learning, being killed, going on, stopping, and a full disk."""

import dataclasses
import json
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from training_pictures import write_noise

from lfm_deploy.errors import CheckpointError, ConfigError, InputError, SuiteError
from lfm_deploy.network.checkpoint import read_checkpoint
from training.recipe import TrainingRecipe
from training.run import resume_run, start_run
from training.state import SavingError
from training.train import Conduct, InterruptedTrainingError, TrainingError

RECIPE = TrainingRecipe(
    name="tiny",
    model={"widths": [4, 8], "projection": 4, "k": 4},
    resize=40,
    crop=32,
    epochs=3,
    batch=4,
    learning_rate=1e-2,
    jpeg=0.5,
)
STEPS = 4  # 8 real and 8 fake pictures

KILLED = """
import os, sys
from pathlib import Path
import torch
from training.recipe import TrainingRecipe
from training.run import start_run
from training.train import Conduct
torch.set_num_threads(1)
folder, data, recipe, last = sys.argv[1:]
done = 0
def die(what, *_):
    global done
    done += "validation" not in what
    if done > int(last):
        os.kill(os.getpid(), 9)
recipe = TrainingRecipe.from_values("tiny", eval(recipe))
start_run(recipe, Path(folder), data=Path(data), conduct=Conduct(save_steps=2, workers=2, on_progress=die))
"""


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # sums are rounded alike in this process and in those that are killed
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_noise(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run that nothing disturbed."""
    return start_run(RECIPE, tmp_path_factory.mktemp("whole"), data=data)


def states(run_folder):
    return [torch.load(run_folder / name, weights_only=True) for name in ("last.pth", "best.pth")]


def assert_same_weights(folder, other):
    for mine, its in zip(states(folder), states(other), strict=True):
        assert mine["state"].keys() == its["state"].keys()
        assert all(torch.equal(value, its["state"][name]) for name, value in mine["state"].items())
        assert mine["metrics"] == its["metrics"]


def test_a_run_leaves_checkpoints_that_say_what_made_them(whole, data):
    best, last = read_checkpoint(whole.folder.best), read_checkpoint(whole.folder.last)
    assert last.metrics["epoch"] == 3
    assert {"loss", "acc", "ap", "learning_rate"} <= set(best.metrics)
    assert len(best.recipe["data_sha256"]) == 64
    assert {"git_revision", "lfm_deploy", "epochs", "rbld_p"} <= set(best.recipe)
    history = json.loads(whole.folder.history.read_text())
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    assert history == whole.history
    assert (best.metrics["ap"], best.metrics["acc"]) == max((entry["ap"], entry["acc"]) for entry in history)
    assert whole.folder.curves.read_bytes().startswith(b"\x89PNG")
    last.build_model()


def test_it_learns(data, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=8, jpeg=0.0)
    history = start_run(recipe, tmp_path, data=data).history
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_workers_do_not_change_the_weights(whole, data, tmp_path):
    start_run(RECIPE, tmp_path, data=data, conduct=Conduct(workers=0))
    assert_same_weights(tmp_path, whole.folder.path)


def test_killed_at_a_random_step_and_resumed_is_the_same_run(whole, data, tmp_path):
    # After the first save, and before the end.
    last = random.SystemRandom().randrange(2, 3 * STEPS - 1)
    folder = tmp_path / "run"
    command = [sys.executable, "-c", KILLED, str(folder), str(data), repr(RECIPE.as_dict()), str(last)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    print(f"killed after step {last}")  # shown where the test fails
    resumed = resume_run(folder, conduct=Conduct(workers=1))
    assert resumed.history[-1]["epoch"] == 3
    assert_same_weights(folder, whole.folder.path)


def test_a_run_that_was_asked_to_stop_saves_and_goes_on(whole, data, tmp_path):
    asked = iter([False] * 5 + [True])
    with pytest.raises(InterruptedTrainingError, match=rf"epoch 2 after step 2 of 4.*--resume {tmp_path}'"):
        start_run(RECIPE, tmp_path, data=data, conduct=Conduct(should_stop=lambda: next(asked)))
    seen = []
    resume_run(tmp_path, conduct=Conduct(on_epoch=seen.append))
    assert [entry["epoch"] for entry in seen] == [2, 3]
    assert_same_weights(tmp_path, whole.folder.path)
    resume_run(tmp_path)  # there is nothing left to do
    assert_same_weights(tmp_path, whole.folder.path)


def test_a_loss_that_is_no_number_stops_and_keeps_its_batch(data, tmp_path):
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) in epoch \d, step \d; its batch is in"):
        start_run(recipe, tmp_path, data=data)
    with np.load(tmp_path / "nan-batch.npz") as batch:
        assert batch["images"].shape == (4, 32, 32, 3)
        assert batch["labels"].shape == batch["indices"].shape == (4,)


def test_a_full_disk_leaves_the_run_whole(whole, data, tmp_path):
    from test_state import largest_file

    recipe = dataclasses.replace(RECIPE, epochs=2)
    asked = iter([False] * 5 + [True])
    with pytest.raises(InterruptedTrainingError):
        start_run(recipe, tmp_path, data=data, conduct=Conduct(should_stop=lambda: next(asked)))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with largest_file(2048), pytest.raises(SavingError, match="cannot be written"):
        resume_run(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    resume_run(tmp_path)
    assert read_checkpoint(tmp_path / "last.pth").metrics["epoch"] == 2


def test_unreadable_files_are_counted_and_survive_a_resume(data, tmp_path):
    import shutil

    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    broken = [copy / split / "noise" / "0_real" / "1.png" for split in ("train", "val")]
    for path in broken:
        path.write_bytes(b"text")
    finished = start_run(RECIPE, tmp_path / "run", data=copy)
    assert set(finished.unreadable) == {str(path) for path in broken}
    assert set(resume_run(tmp_path / "run").unreadable) == set(finished.unreadable)


def test_what_cannot_be_started_or_gone_on_with(whole, data, tmp_path):
    with pytest.raises(InputError, match="holds a run; go on with --resume"):
        start_run(RECIPE, whole.folder.path, data=data)
    with pytest.raises(ConfigError, match="give --data"):
        start_run(RECIPE, tmp_path)
    with pytest.raises(ConfigError, match="makes its own data"):
        start_run(dataclasses.replace(RECIPE, data="demonstration"), tmp_path, data=data)
    with pytest.raises(CheckpointError, match="no such file"):
        resume_run(tmp_path)
    (tmp_path / "other").mkdir()
    for split in ("train", "val"):
        (tmp_path / "other" / split).symlink_to(data / "train")
    with pytest.raises(SuiteError, match="not the pictures that"):
        resume_run(whole.folder.path, data=tmp_path / "other")


HOLD = """
import sys
from pathlib import Path
from lfm_deploy.storage.folder_lock import lock_folder
with lock_folder(Path(sys.argv[1]), print):
    print("locked", flush=True)
    sys.stdin.read()
"""


def interrupted(data, folder):
    """A run that was stopped in its second epoch, after the second step."""
    asked = iter([*[False] * (STEPS + 1), True])
    with pytest.raises(InterruptedTrainingError):
        start_run(RECIPE, folder, data=data, conduct=Conduct(should_stop=lambda: next(asked)))


def test_a_second_run_in_a_folder_is_refused(data, tmp_path):
    interrupted(data, tmp_path / "run")
    before = (tmp_path / "run" / "state.pth").read_bytes()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], **pipes, text=True) as owner:
        assert owner.stdout.readline() == "locked\n"
        for begin in (
            lambda: start_run(RECIPE, tmp_path / "run", data=data, overwrite=True),
            lambda: resume_run(tmp_path / "run"),
        ):
            with pytest.raises(InputError, match=rf"another lfm-deploy \(process {owner.pid}\) trains here"):
                begin()
        owner.stdin.close()
    assert (tmp_path / "run" / "state.pth").read_bytes() == before


@pytest.mark.parametrize(("name", "value"), [("step", 1), ("step", 99), ("right", 10**6)])
def test_a_place_that_cannot_be_is_refused(data, tmp_path, name, value):
    interrupted(data, tmp_path / "run")
    path = tmp_path / "run" / "state.pth"
    content = torch.load(path, weights_only=True)
    content["run"][name] = value
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"state.pth: stands at epoch .*; start the run again"):
        resume_run(tmp_path / "run")


@pytest.mark.parametrize("key", ["jpeg", "rbld", "learning_rate"])
def test_a_recipe_that_lacks_a_key_is_not_filled_with_another_value(data, tmp_path, key):
    interrupted(data, tmp_path / "run")
    path = tmp_path / "run" / "state.pth"
    content = torch.load(path, weights_only=True)
    del content["run"]["recipe"][key]
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"state.pth: its recipe is not all that a run writes; start"):
        resume_run(tmp_path / "run")


def test_leftovers_of_a_killed_run_are_removed_when_it_goes_on(data, tmp_path):
    interrupted(data, tmp_path / "run")
    (tmp_path / "run" / ".lfm-tmp-best.pth-abc").touch()
    resume_run(tmp_path / "run")
    assert not list((tmp_path / "run").glob(".lfm-tmp-*"))
