import re
import resource
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from lfm_deploy.errors import CheckpointError
from training.state import ENTRY_KEYS, RunFolder, RunState, SavingError, find_revision, read_state, save, write_state


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
    run.history.extend(dict.fromkeys(ENTRY_KEYS, 0.5) | {"epoch": number + 1} for number in range(epoch))
    run.best = run.history[-1]
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
    with pytest.raises(CheckpointError, match="start the run again"):
        read_state(path)


def test_a_flipped_bit_is_told_by_the_check_sum(tmp_path):
    path = RunFolder(tmp_path).state
    run, network = make_state()
    write_state(path, run, network)
    content = bytearray(path.read_bytes())
    content[content.find(network["model"]["weight"].numpy().tobytes()) + 400] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"the check sum of .*/data/0 does not hold.*start the run again"):
        read_state(path)


IMPOSSIBLE: dict[str, list[Any]] = {
    "recipe": [5, {}, {"name": 3}],
    "source": [{}, None, {"path": 3, "sha256": "0" * 64}, {"path": None, "sha256": None}],
    "epoch": ["x", -1, True, 2.0, 4],
    "step": [-3, None],
    "loss_sum": [float("nan"), "1", float("inf")],
    "right": [-1, 0.5],
    "history": [5, [], [1, 2, 3], [{}, {}, {}]],
    "best": [None, {"epoch": 9}],
    "unreadable": [[], {"a": 1}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in IMPOSSIBLE for value in IMPOSSIBLE[name]])
def test_values_that_no_run_writes_are_named(tmp_path, name, value):
    path = RunFolder(tmp_path).state
    run, network = make_state()
    setattr(run, name, value)
    write_state(path, run, network)
    odd = "history" if (name, value) == ("epoch", 4) else name  # an entry too few
    with pytest.raises(CheckpointError, match=rf"state.pth: {odd} is .*, which no run writes; start the run again"):
        read_state(path)


def test_missing_and_unknown_values(tmp_path):
    path = RunFolder(tmp_path).state
    for change in (lambda values: values.pop("step"), lambda values: values.update(extra=1)):
        run, network = make_state()
        values = dict(vars(run))
        change(values)
        torch.save({"format": "lfm-deploy training state 1", "run": values, "network": network}, path)
        with pytest.raises(CheckpointError, match="values are missing"):
            read_state(path)


def test_no_state_at_all(tmp_path):
    with pytest.raises(CheckpointError, match="no such file; --resume takes"):
        read_state(tmp_path / "state.pth")


def test_the_revision_is_one_of_git_or_none():
    revision = find_revision()
    assert revision is None or re.fullmatch(r"[0-9a-f]{40}(\+changed)?", revision)
