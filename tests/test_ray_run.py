"""Jobs under a real Ray on this machine, whose processes die: files as one process writes them, and an end to it."""

import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import threading
import zipfile
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ray_commands import LONGEST_S, TESTS, contents, needs_ray, predict, start
from shard_list import make_list
from waiting import wait_for

from lfm_deploy.errors import DeployError, UnavailableError
from lfm_deploy.prediction.collection import collect_parts, write_collection
from lfm_deploy.prediction.judges import open_judge
from lfm_deploy.prediction.part_files import PartCounts
from lfm_deploy.prediction.part_run import judge_parts
from lfm_deploy.prediction.parts import Part, find_parts
from lfm_deploy.prediction.ray_run import ActorError, RayRun, _explain, describe_hung, find_hung
from lfm_deploy.prediction.rows import RowFormat
from lfm_deploy.prediction.tally import JobState, UnderWay

# Pictures in the parts whose processes are killed: so many that each is seen in the middle of them.
MANY = 150
# Far more than an engine takes to open, or a picture, and over before the processes of two.zip have died.
PATIENCE_S = 8
# By which others may join the Ray of the killed job.
KEY = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}


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
