import re
import resource
from contextlib import contextmanager

import pytest
import torch

from lfm_deploy.errors import CheckpointError
from training.state import RunFolder, RunState, SavingError, find_revision, read_state, save, write_state


@contextmanager
def largest_file(size):
    """What a full disk does, as far as a process without privileges can make one: files end at ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def make_state(epoch=3):
    run = RunState(recipe={"name": "tiny", "flip": 0.5}, source={"path": None, "sha256": "0" * 64}, epoch=epoch)
    run.history.append({"epoch": 1, "loss": 0.5})
    return run, {"model": {"weight": torch.arange(5000.0)}, "steps_done": 7}


def test_a_state_comes_back(tmp_path):
    path = RunFolder(tmp_path).state
    run, network = make_state()
    write_state(path, run, network)
    found, state = read_state(path)
    assert found == run
    assert torch.equal(state["model"]["weight"], network["model"]["weight"])
    assert state["steps_done"] == 7


def test_a_full_disk_leaves_the_state_before_whole(tmp_path):
    path = RunFolder(tmp_path).state
    write_state(path, *make_state(epoch=3))
    with largest_file(4096), pytest.raises(SavingError, match=rf"state.pth: cannot be written .*--resume {tmp_path}'"):
        write_state(path, *make_state(epoch=4))
    assert read_state(path)[0].epoch == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.pth"]


def test_an_error_of_the_system_is_told_in_its_words(tmp_path):
    with (
        largest_file(10),
        pytest.raises(SavingError, match=r"\(File too large\)") as caught,
    ):
        save(tmp_path / "history.json", lambda path: path.write_text("x" * 100) and None)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(SavingError, match="cannot be written"):
        save(tmp_path / "file" / "state.pth", lambda _: None)


@pytest.mark.parametrize("content", [b"", b"not a state", None])
def test_what_is_no_state(tmp_path, content):
    path = tmp_path / "state.pth"
    if content is None:
        torch.save({"format": "another", "run": {}, "network": {}}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not the state of a training run, or damaged"):
        read_state(path)


def test_no_state_at_all(tmp_path):
    with pytest.raises(CheckpointError, match="no such file; --resume takes"):
        read_state(tmp_path / "state.pth")


def test_the_revision_is_one_of_git_or_none():
    revision = find_revision()
    assert revision is None or re.fullmatch(r"[0-9a-f]{40}(\+changed)?", revision)
