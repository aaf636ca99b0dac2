"""A job under a real Ray on this machine, whose processes die: files as one process writes them, and an end to it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from mixed_files import write_mixed
from shard_list import make_list

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
# Long enough that a process is seen in the middle of it: seconds, on one core.
MANY = 400
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: the extra 'ray'")


@pytest.fixture
def listed(pictures, tmp_path, monkeypatch):
    """The list of all kinds of shards, two of which take long."""
    monkeypatch.chdir(tmp_path)
    listed = make_list(pictures, tmp_path)
    content = (tmp_path / "photos" / "0.png").read_bytes()
    Path("long.png").write_bytes(content)
    with tarfile.open("one.tar", "w") as file:
        for index in range(MANY):
            file.add("long.png", f"{index:04}.png")
    with zipfile.ZipFile("two.zip", "w") as archive:
        for index in range(MANY):
            archive.writestr(f"{index:04}.png", content)
    return listed


def start(arguments, log, **options):
    """Start Python on arguments, with Ctrl-C as on a terminal, in a group of processes of its own."""
    environment = dict(os.environ) | {
        "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}",
        "HOME": str(log.parent / "home"),
    }
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)], env=environment, stderr=file, start_new_session=True, **options
        )


def run_job(workdir, out, *patience):
    log = out.parent / "stderr.txt"
    process = start([TESTS / "ray_killer.py", workdir.path, out, "list.txt", *patience], log, stdout=subprocess.PIPE)
    try:
        text, _ = process.communicate(timeout=300)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # Ray ends what it has started
    assert process.returncode == 0, log.read_text()
    return json.loads(text.splitlines()[-1])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.part")}


@needs_ray
def test_processes_may_die_in_the_middle_and_the_files_are_those_of_one_process(listed, small_workdir, tmp_path):
    alone, out = tmp_path / "alone", tmp_path / "out"
    judge = open_judge(small_workdir, batch=1)
    expected = judge_parts(judge, find_parts(["@list.txt"]), alone, RowFormat.CSV)
    judge.engine.close()
    # What another process has begun goes on: without --ray, it had judged one of them.
    shutil.copytree(alone, out, ignore=lambda _, names: [name for name in names if not name.startswith("three")])

    found = run_job(small_workdir, out)
    killed = [name for name, *_ in found["killed"]]
    assert (killed.count("one.tar"), killed.count("two.zip")) == (1, 3)
    assert all(0 < seen < MANY for *_, seen in found["killed"])
    assert found["lost"] == {"two.zip": "3 processes died while they judged it"}
    assert found["error"].startswith("two.zip: not judged: 3 processes died while they judged it")
    assert "judging one.tar again: the process that had it died" in found["said"]
    assert (found["room"], found["done"], found["skipped"]) == (2, 6, 1)
    assert (found["judged"], found["unreadable"]) == (4, 2)
    assert len(contents(out)) == 5

    judge = open_judge(small_workdir, batch=1)
    resumed = judge_parts(judge, find_parts(["@list.txt"]), out, RowFormat.CSV)
    judge.engine.close()
    # What was lost, and the two shards that cannot be read, which may be there by now.
    assert (resumed.judged, resumed.skipped) == (3, 3)
    assert contents(out) == contents(alone)
    assert expected.counts.pictures == 2 * MANY + 13
    for folder in (alone, out):
        write_collection(collect_parts(folder, find_parts(["@list.txt"])), folder / "all.csv")
    assert (out / "all.csv").read_bytes() == (alone / "all.csv").read_bytes()


@needs_ray
def test_a_process_that_hangs_is_said_and_ended_and_its_part_judged_again(listed, small_workdir, tmp_path):
    found = run_job(small_workdir, tmp_path / "out", 20)
    ((name, process, _),) = found["killed"]
    assert name == "one.tar"
    (line,) = [line for line in found["said"] if f"one.tar: process {process} on " in line]
    assert re.search(
        r"has judged nothing for \d\d seconds; it is ended, and the work begun again \(--patience\)$", line
    )
    assert "judging one.tar again: the process that had it died" in found["said"]
    assert (found["lost"], found["error"], found["done"], found["judged"]) == ({}, None, 6, 6)
    assert not Path(f"/proc/{process}").exists()


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


@needs_ray
def test_ctrl_c_ends_the_command_and_the_next_one_finishes_the_rest(listed, small_workdir, tmp_path):
    command = ["-m", "lfm_deploy", "predict", "--from-list", "list.txt", "--output-dir", "out", "--format", "csv"]
    command += ["--workdir", small_workdir.path, "--ray", "local", "--actors", "2"]
    log = tmp_path / "stderr.txt"
    process = start([*command, "--batch", "1"], log)
    for _ in range(1200):
        if contents(tmp_path / "out") or process.poll() is not None:
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all of them
    assert process.wait(timeout=120) == 130, log.read_text()
    said = log.read_text().splitlines()
    assert said[0] == "Ray, local: 2 actors of 1 core; Ray's messages go to out/ray.log"
    assert said[-1].endswith(" of 6 parts; the same command again continues.")
    before = contents(tmp_path / "out")
    assert 0 < len(before) < 6
    # Ray would keep a token there, for all Rays of this user.
    assert not (tmp_path / "home" / ".ray").exists()

    done = subprocess.run(
        [sys.executable, *map(str, command), "--batch", "1"],
        env=dict(os.environ) | {"PYTHONPATH": str(TESTS.parent)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    *others, last = done.stderr.splitlines()
    assert last.endswith("; written: out")
    assert "2 with shards that could not be read whole" in last
    # Nothing of Ray's own is on the terminal: what is there is what predict says.
    known = ("Ray, local:", "taking ", "judging ", "bad.tar: ", "no such.zip: ")
    assert [line for line in others if not line.startswith(known)] == []
    assert contents(tmp_path / "out").keys() >= before.keys()
    assert len(contents(tmp_path / "out")) == 6
    assert not list((tmp_path / "out").glob(".ray-*"))


@needs_ray
def test_200_files_of_all_kinds_have_the_rows_of_predict(small_workdir, tmp_path):
    paths = write_mixed(tmp_path, 200)
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{path}\n" for path in paths))
    command = ["-m", "lfm_deploy", "predict", "--from-list", listed, "--workdir", small_workdir.path, "--format", "csv"]
    plain, job = tmp_path / "plain.csv", [*command, "--output-dir", tmp_path / "out", "--ray", "local"]
    for arguments in ([*command, "--output", plain], job):
        log = tmp_path / "stderr.txt"
        assert start(arguments, log).wait(timeout=300) == 0, log.read_text()
    write_collection(collect_parts(tmp_path / "out", find_parts([f"@{listed}"])), tmp_path / "all.csv")
    assert (tmp_path / "all.csv").read_bytes() == plain.read_bytes()
    assert plain.read_text().count("\n") == 201


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
