"""What ``predict --ray`` does around the job: signals, the marker, what each machine must see, and who gets a GPU."""

import os
import re
import signal
from pathlib import Path

import click
import pytest

from lfm_deploy.cli.ray_jobs import (
    _count_cards,
    _find_seen,
    _job_bar,
    _marking,
    _rays_messages_into,
    _removing_if_refused,
    _sigterm_as_interrupt,
    _Terminated,
)
from lfm_deploy.errors import DeployError, InputError, UnavailableError, WriteError
from lfm_deploy.prediction.parts import Part
from lfm_deploy.prediction.ray_actor import MARKER
from lfm_deploy.prediction.ray_run import RayRun
from lfm_deploy.prediction.tally import JobState


def part(name):
    return Part(name=name, sha256="0" * 64, shard=Path(name), entries=(name,))


def test_sigterm_ends_the_job_as_ctrl_c_does_and_only_the_job():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(_Terminated), _sigterm_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    assert issubclass(_Terminated, KeyboardInterrupt)


def test_the_marker_is_there_while_the_job_runs(tmp_path):
    with _marking(tmp_path) as marker:
        assert [path.name for path in tmp_path.iterdir()] == [marker.name]
        assert marker.name.startswith(MARKER)
    assert not list(tmp_path.iterdir())
    with pytest.raises(WriteError, match="choose another --output-dir") as caught, _marking(tmp_path / "gone"):
        pass
    assert caught.value.exit_code == 2


def test_each_machine_must_see_what_this_one_sees_and_no_more(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("marker", "deploy/lfm.onnx", "deploy/lfm.fp16.onnx", "deploy/notes.txt", "a.tar"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    graphs = [tmp_path / "deploy/lfm.fp16.onnx", tmp_path / "deploy/lfm.onnx"]
    always = [tmp_path, tmp_path / "marker", tmp_path / "deploy"]
    parts = [part("a.tar"), part("b.tar")]
    assert _find_seen(Path("marker"), Path("deploy"), None, parts) == (*always, *graphs, tmp_path / "a.tar")
    # A shard that is not there has a row that says so; an engine may be on the other machines alone.
    assert _find_seen(Path("marker"), Path("deploy"), Path("my.engine"), parts[1:]) == tuple(always)


@pytest.mark.parametrize(
    ("device", "engine", "cards"),
    [
        (None, None, 0),
        ("cpu", None, 0),
        ("cuda", None, 1),
        (None, "a.engine", 1),
        (None, "a.onnx", 0),
        ("cpu", "a.engine", 0),
    ],
)
def test_actors_get_a_gpu_where_the_engine_is_to_run_on_one(device, engine, cards):
    assert _count_cards({"device": device, "engine": engine and Path(engine)}) == cards


@pytest.mark.parametrize("device", ["cuda:1", "cuda:0,cuda:1"])
def test_ray_hands_out_the_gpus_itself(device):
    with pytest.raises(click.UsageError, match="use --device cuda, not cuda:"):
        _count_cards({"device": device, "engine": None})


def test_what_is_printed_and_what_native_code_writes_goes_into_the_log(tmp_path, capfd):
    log = tmp_path / "ray.log"
    log.write_text("of a run before\n")
    with _rays_messages_into(log):
        print("a worker died")
        os.write(2, b"core_worker.cc: E\n")
        click.echo("ours", err=True)
    click.echo("ours later", err=True)
    os.write(2, b"native later\n")
    assert log.read_text() == "of a run before\na worker died\ncore_worker.cc: E\n"
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == ["ours", "ours later", "native later"]


@pytest.mark.parametrize(
    ("error", "done", "before", "stays"),
    [
        (InputError("{log}: is a folder"), 0, False, True),
        (InputError("no such graph"), 0, False, False),
        (UnavailableError("no GPU"), 0, False, False),
        (InputError("no such graph"), 0, True, True),
        (InputError("a picture that cannot be judged"), 1, False, True),
        (DeployError("Ray could not go on"), 0, False, True),
        (KeyboardInterrupt(), 0, False, True),
    ],
)
def test_a_log_goes_where_it_is_new_and_has_nothing_to_tell(tmp_path, error, done, before, stays):
    log = tmp_path / "ray.log"
    if error.args:
        error = type(error)(error.args[0].format(log=log))

    def refuse():
        log.touch()
        raise error

    if before:
        log.touch()
    with pytest.raises(type(error)), _removing_if_refused(log, RayRun(done=done)):
        refuse()
    assert log.exists() == stays


def test_the_bar_counts_parts_and_pictures(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # a bar is for terminals
    monkeypatch.setenv("COLUMNS", "100")
    run = RayRun(done=3)
    with _job_bar(4) as show:
        show(run, JobState(pictures=0, under_way=()))
        show(run, JobState(pictures=1200, under_way=()))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert "3/4 parts" in shown
    assert "1,200 pictures" in shown
