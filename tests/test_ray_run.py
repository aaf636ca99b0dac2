"""Jobs under a real Ray on this machine, whose processes die: files as one process writes them, and an end to it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from mixed_files import write_mixed
from shard_list import make_list
from waiting import wait_for

from lfm_deploy.cli import run as run_command
from lfm_deploy.errors import DeployError, UnavailableError
from lfm_deploy.prediction.collection import collect_parts, write_collection
from lfm_deploy.prediction.judges import open_judge
from lfm_deploy.prediction.part_files import PartCounts
from lfm_deploy.prediction.part_run import judge_parts
from lfm_deploy.prediction.parts import Part, find_parts
from lfm_deploy.prediction.ray_run import ActorError, RayRun, _explain, describe_hung, find_hung
from lfm_deploy.prediction.rows import RowFormat
from lfm_deploy.prediction.tally import JobState, UnderWay

TESTS = Path(__file__).resolve().parent
# Pictures in the parts whose processes are killed: so many that each is seen in the middle of them.
MANY = 150
# Far more than an engine takes to open, or a picture, and over before the processes of two.zip have died.
PATIENCE_S = 8
LONGEST_S = 300
# By which others may join the Ray of the killed job.
KEY = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: the extra 'ray'")


def start(arguments, log, place, **options):
    """Start Python on arguments, with Ctrl-C as on a terminal, in a group of processes of its own."""
    environment = dict(os.environ) | {
        "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}",
        "HOME": str(place / "home"),
    }
    environment |= options.pop("variables", {})
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=environment,
            cwd=place,
            stderr=file,
            start_new_session=True,
            **options,
        )


def predict(place, *arguments, **options):
    """The command in a process of its own; it, and the file of what it says."""
    log = place / "stderr.txt"
    return start(["-m", "lfm_deploy", "predict", "--format", "csv", *arguments], log, place, **options), log


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.part")}


@dataclass(frozen=True)
class KilledJob:
    """A job whose processes died, and hung: where it was, what one process makes of it, and what came of it."""

    place: Path
    alone: Any
    found: dict[str, Any]


@pytest.fixture(scope="module")
def killed_job(request, pictures, small_workdir, tmp_path_factory):
    """All kinds of shards, three of which take long; the Ray of the job is there until the tests are done."""
    # What Ray starts for others who join it sees the store by its settings, not by theirs.
    has_store = find_spec("moto") is not None and find_spec("s3fs") is not None
    variables = KEY | (request.getfixturevalue("s3_server").environment() if has_store else {})
    place = tmp_path_factory.mktemp("killed")
    listed = make_list(pictures, place)
    listed.write_text("hung.tar\n" + listed.read_text())
    long = place / "photos" / "0.png"
    for name in ("hung.tar", "one.tar"):
        with tarfile.open(place / name, "w") as file:
            for index in range(MANY):
                file.add(long, f"{index:04}.png")
    with zipfile.ZipFile(place / "two.zip", "w") as archive:
        for index in range(MANY):
            archive.write(long, f"{index:04}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        alone = judge_alone(small_workdir, place / "alone")
    # What another process has begun goes on: without --ray, it had judged one of them.
    others = shutil.ignore_patterns("[!t]*", "two*")
    shutil.copytree(place / "alone", place / "out", ignore=others)
    arguments = [TESTS / "ray_killer.py", small_workdir.path, place / "out", "list.txt", PATIENCE_S]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = start(arguments, place / "stderr.txt", place, variables=variables, **pipes)
    end = threading.Timer(LONGEST_S, os.killpg, (process.pid, signal.SIGKILL))  # a job that does not end is ended
    end.start()
    try:
        # Ray prints there, too.
        text = next((line for line in process.stdout if line.startswith(b"{")), b"")
        end.cancel()
        assert text, (place / "stderr.txt").read_text()
        yield KilledJob(place, alone, json.loads(text))
        process.communicate(timeout=LONGEST_S)
    finally:
        end.cancel()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # Ray ends what it has started
        process.communicate()
    assert process.returncode == 0, (place / "stderr.txt").read_text()


def judge_alone(workdir, folder):
    """What one process makes of the list here."""
    judge = open_judge(workdir, batch=1)
    try:
        return judge_parts(judge, find_parts(["@list.txt"]), folder, RowFormat.CSV)
    finally:
        judge.engine.close()


@needs_ray
def test_processes_may_die_in_the_middle_and_the_files_are_those_of_one_process(killed_job, small_workdir, monkeypatch):
    monkeypatch.chdir(killed_job.place)
    found, alone, out = killed_job.found, killed_job.place / "alone", killed_job.place / "out"
    killed = [name for name, *_ in found["killed"]]
    assert (killed.count("one.tar"), killed.count("two.zip")) == (1, 3)
    assert all(0 < seen < MANY for *_, seen in found["killed"])
    assert found["lost"] == {"two.zip": "3 processes died while they judged it"}
    assert found["error"].startswith("two.zip: not judged: 3 processes died while they judged it")
    assert "judging one.tar again: the process that had it died" in found["said"]
    assert (found["room"], found["done"], found["skipped"]) == (2, 7, 1)
    assert (found["judged"], found["unreadable"]) == (5, 2)
    assert len(contents(out)) == 6

    resumed = judge_alone(small_workdir, out)
    # What was lost, and the two shards that cannot be read, which may be there by now.
    assert (resumed.judged, resumed.skipped) == (3, 4)
    assert contents(out) == contents(alone)
    assert killed_job.alone.counts.pictures == 3 * MANY + 13
    for folder in (alone, out):
        write_collection(collect_parts(folder, find_parts(["@list.txt"])), folder / "all.csv")
    assert (out / "all.csv").read_bytes() == (alone / "all.csv").read_bytes()


@needs_ray
def test_a_process_that_hangs_is_said_and_ended_and_its_part_judged_again(killed_job):
    found = killed_job.found
    ((process, seen),) = [(process, seen) for name, process, seen in found["killed"] if name == "hung.tar"]
    assert 0 < seen < MANY
    (line,) = [line for line in found["said"] if f"hung.tar: process {process} on " in line]
    match = re.search(
        r"has judged nothing for (\d+) seconds; it is ended, and the work begun again \(--patience\)$", line
    )
    assert int(match[1]) >= PATIENCE_S
    assert "judging hung.tar again: the process that had it died" in found["said"]
    assert "hung.tar" not in found["lost"]
    assert [name for name in contents(killed_job.place / "out") if name.startswith("hung.tar")]
    wait_for(lambda: not Path(f"/proc/{process}").exists())


@needs_ray
def test_objects_in_a_store_are_those_of_one_process(
    killed_job, bucket, pictures, small_workdir, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    make_list(pictures, tmp_path)
    names = ("one.tar", "two.zip", "three.tar.gz")
    Path("stored.txt").write_text("\n".join(bucket.put(name, Path(name).read_bytes()) for name in names))
    arguments = ["--from-list", "stored.txt", "--workdir", small_workdir.path, "--output-dir"]
    joined = ["--ray", killed_job.found["address"], "--actors", "2"]
    process, log = predict(tmp_path, *arguments, bucket.url("ray"), *joined, variables=KEY)
    assert process.wait(timeout=LONGEST_S) == 0, log.read_text()
    said = log.read_text()
    alone, alone_log = predict(tmp_path, *arguments, bucket.url("alone"))
    assert alone.wait(timeout=LONGEST_S) == 0, alone_log.read_text()
    for text in (said, alone_log.read_text()):
        assert "3 parts judged; 9 pictures: " in text
    # A log grows line by line, which no object does.
    assert "Ray's messages go to ray.log\n" in said
    ours, theirs = (
        {key.rpartition("/")[2]: content for key, content in bucket.contents(f"{folder}/").items()}
        for folder in ("ray", "alone")
    )
    assert ours == theirs
    assert len(ours) == 3


@needs_ray
def test_what_a_process_refuses_leaves_no_folder_and_no_log(killed_job, tmp_path):
    (tmp_path / "a.tar").touch()
    arguments = ["a.tar", "--output-dir", "new/out", "--ray", killed_job.found["address"], "--device", "cpu"]
    process, log = predict(tmp_path, *arguments, variables=KEY)
    assert process.wait(timeout=LONGEST_S) == 2, log.read_text()
    assert "Error: deploy/lfm.onnx: no such graph" in log.read_text()
    assert not (tmp_path / "new").exists()


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


def test_a_process_is_ended_once():
    hung = UnderWay(name="a.tar", host="one", process=10, pictures=3, actor="its handle", idle_s=3700.0)
    state = JobState(
        pictures=3,
        under_way=(hung, replace(hung, process=11, idle_s=3000.0), replace(hung, process=12, actor=None)),
    )
    ended = set()
    assert find_hung(state, 3600.0, ended) == [hung]
    assert find_hung(state, 3600.0, ended) == []
    assert find_hung(JobState(pictures=3, under_way=(replace(hung, pictures=4),)), 3600.0, ended)
    assert describe_hung(hung) == (
        "a.tar: process 10 on one has judged nothing for 62 minutes; it is ended, and the work begun again (--patience)"
    )


def part(name):
    return Part(name=name, sha256="0" * 64, shard=Path(name), entries=(name,))


def answer(**found):
    run = {"judged": 1, "skipped": 0, "unreadable": 0, "counts": {"fake": 2, "real": 3}} | found
    return {"number": 0, "messages": [], "run": run, "left_out": {".txt": 1}, "proved": True}


def test_answers_add_up_to_what_one_process_would_have_counted():
    run = RayRun()
    run.add(answer(), part("a.tar"))
    run.add(answer(judged=0, skipped=1, counts={}), part("b.tar"))
    run.add({"number": 2, "messages": [], "lost": "gone"}, part("c.tar"))
    assert (run.done, run.parts.judged, run.parts.skipped, run.lost) == (3, 1, 1, {"c.tar": "gone"})
    assert run.parts.counts == PartCounts(fake=2, real=3)
    assert (run.left_out, run.is_proved) == ({".txt": 2}, True)


def test_an_error_of_an_actor_has_its_line_and_exit_code():
    with pytest.raises(ActorError, match=r"^no such graph$") as caught:
        RayRun().add({"number": 0, "messages": [], "error": "no such graph", "exit_code": 2}, part("a.tar"))
    assert caught.value.exit_code == 2


def test_what_stops_ray_is_one_line():
    lacking = _explain(RuntimeError("ray::X()\n  File ...\nModuleNotFoundError: No module named 'lfm_deploy'\n"))
    assert isinstance(lacking, UnavailableError)
    assert "No module named 'lfm_deploy'; install this version" in str(lacking)
    other = _explain(RuntimeError("traceback\nOwnerDiedError: gone"))
    assert type(other) is DeployError
    assert str(other) == "Ray could not go on: OwnerDiedError: gone"
