"""What ``predict --ray`` does around the job: signals, the marker, what each machine must see, and who gets a GPU."""

import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from mixed_files import write_mixed
from ray_commands import LONGEST_S, contents, needs_ray, predict
from shard_list import make_list
from waiting import wait_for

from lfm_deploy.cli import run as run_command
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
from lfm_deploy.prediction.collection import collect_parts, write_collection
from lfm_deploy.prediction.parts import Part, find_parts
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


@dataclass(frozen=True)
class StoppedJob:
    """A job of the command line that Ctrl-C ended, and the same command again: files there then, and what was said."""

    place: Path
    code: int
    before: dict[str, bytes]
    said: str
    code_again: int
    said_again: str
    printed_again: str


@pytest.fixture(scope="module")
def stopped_job(pictures, small_workdir, tmp_path_factory):
    place = tmp_path_factory.mktemp("stopped")
    make_list(pictures, place)
    (place / "mixed").mkdir()
    # The one that is done first is small; by then, another process has begun the 200 files, which take long.
    mixed = [f"mixed/{path.name}" for path in write_mixed(place / "mixed", 200)]
    names = ["three.tar.gz", *mixed, "photos", "one.tar", "two.zip", "bad.tar", "no such.zip"]
    (place / "list.txt").write_text("".join(f"{name}\n" for name in names))
    arguments = ["--from-list", "list.txt", "--output-dir", "out", "--workdir", small_workdir.path]
    arguments += ["--ray", "local", "--actors", "2"]
    process, log = predict(place, *arguments)
    wait_for(lambda: contents(place / "out") or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all of them
    code, said, before = process.wait(timeout=LONGEST_S), log.read_text(), contents(place / "out")
    again, log = predict(place, *arguments, stdout=subprocess.PIPE)
    printed, _ = again.communicate(timeout=LONGEST_S)
    return StoppedJob(place, code, before, said, again.returncode, log.read_text(), printed.decode())


@needs_ray
def test_ctrl_c_ends_the_command_and_the_next_one_finishes_the_rest(stopped_job):
    assert stopped_job.code == 130, stopped_job.said
    said = stopped_job.said.splitlines()
    assert said[0] == "Ray, local: 2 actors of 1 core; Ray's messages go to out/ray.log"
    assert said[-1].endswith(" of 6 parts; the same command again continues.")
    assert 0 < len(stopped_job.before) < 6
    # Ray would keep a token there, for all Rays of this user.
    assert not (stopped_job.place / "home" / ".ray").exists()

    assert (stopped_job.code_again, stopped_job.printed_again) == (0, ""), stopped_job.said_again
    *others, last, left_out = stopped_job.said_again.splitlines()
    assert last.endswith("; written: out")
    assert "2 with shards that could not be read whole" in last
    assert left_out == "left out: 1 .txt"
    # Nothing of Ray's own is on the terminal: what is there is what predict says.
    known = ("Ray, local:", "taking ", "judging ", "bad.tar: ", "no such.zip: ")
    assert [line for line in others if not line.startswith(known)] == []
    out = contents(stopped_job.place / "out")
    assert out.keys() >= stopped_job.before.keys()
    assert len(out) == 6
    assert not list((stopped_job.place / "out").glob(".ray-*"))


@needs_ray
def test_200_files_of_all_kinds_have_the_rows_of_predict(stopped_job, small_workdir, monkeypatch):
    monkeypatch.chdir(stopped_job.place)
    arguments = ["predict", "--from-list", "list.txt", "--output", "plain.csv", "--workdir", str(small_workdir.path)]
    assert run_command(arguments) == 0
    write_collection(collect_parts(Path("out"), find_parts(["@list.txt"])), Path("all.csv"))
    assert Path("all.csv").read_bytes() == Path("plain.csv").read_bytes()
    assert Path("plain.csv").read_text().count("\nmixed/") == 200
