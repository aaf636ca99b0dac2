"""What an actor does with a part, and with whatever goes wrong: an answer, never an exception that Ray would repeat."""

import json
import os
import socket
from importlib.util import find_spec
from pathlib import Path

import pytest
from shard_list import make_list

import lfm_deploy.prediction.ray_actor as ray_actor
from lfm_deploy.machine import count_cores
from lfm_deploy.pictures.pixel_limit import MOST_PIXELS, most_pixels
from lfm_deploy.prediction.judges import open_judge
from lfm_deploy.prediction.part_files import read_head
from lfm_deploy.prediction.part_run import judge_parts, make_folder
from lfm_deploy.prediction.parts import find_parts
from lfm_deploy.prediction.ray_actor import MARKER, ActorTask, PartActor, pack_part
from lfm_deploy.prediction.rows import RowFormat
from lfm_deploy.prediction.tally import Tally

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: the extra 'ray'")
OPTIONS = ("engine", "precision", "device", "threshold", "batch", "decoder")


@pytest.fixture
def make_actor(pictures, small_workdir, tmp_path, monkeypatch):
    """Actors of this process, on the list of all kinds of shards; what they change is put back."""
    monkeypatch.chdir(tmp_path)
    make_list(pictures, tmp_path)
    make_folder(tmp_path / "out")
    monkeypatch.setattr(ray_actor, "_find_actor", lambda: ("1", None))
    actors = []

    def make(tally=None, **changes):
        fields = {
            "folder": Path("out"), "form": RowFormat.CSV, "strict": False, "overwrite": False, "cores": 1, "seen": (),
            "workdir": small_workdir.path, "options": dict.fromkeys(OPTIONS), "max_pixels": MOST_PIXELS,
            "place": tmp_path, "host": socket.gethostname(),
        }  # fmt: skip
        tally = tally or Tally()
        actors.append(PartActor(ActorTask(**fields | changes), lambda name, *given: getattr(tally, name)(*given)))
        return actors[-1]

    yield make
    for actor in actors:
        actor._kept.close()


def answers(actor, names=("@list.txt",)):
    for number, part in enumerate(find_parts(names)):
        row = {name: [value] for name, value in pack_part(number, part).items()}
        yield json.loads(actor(row)["answer"][0])


def test_files_are_those_of_a_process_without_ray(make_actor, small_workdir, tmp_path):
    found = list(answers(make_actor()))
    judge = open_judge(small_workdir)
    run = judge_parts(judge, find_parts(["@list.txt"]), tmp_path / "alone", RowFormat.CSV)
    judge.engine.close()
    ours, theirs = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("out", "alone"))
    assert ours == theirs
    assert len(ours) == len(found) == 6
    assert sum(answer["run"]["judged"] for answer in found) == run.judged
    assert sum(answer["run"]["unreadable"] for answer in found) == run.unreadable == 2
    assert [answer["number"] for answer in found] == list(range(6))
    assert found[1]["left_out"] == {".txt": 1}
    assert found[0]["messages"][-1].startswith("taking ")
    assert [answer["run"]["skipped"] for answer in answers(make_actor())].count(1) == 4


def test_an_actor_takes_its_cores_and_pixels_and_no_more(make_actor, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    actor = make_actor(cores=3, max_pixels=12345)
    assert (count_cores(), most_pixels()) == (3, 12345)
    assert actor._judge.engine.settings.threads == 3


def test_what_is_wrong_with_the_engine_is_the_answer_with_its_exit_code(make_actor, tmp_path):
    (answer,) = answers(make_actor(workdir=tmp_path / "nowhere"), ["one.tar"])
    assert answer["error"].startswith(f"{tmp_path}/nowhere/lfm.onnx: no such graph; make it with")
    assert answer["exit_code"] == 2
    (answer,) = answers(make_actor(options=dict.fromkeys(OPTIONS) | {"device": "cuda"}, host="head"), ["one.tar"])
    assert answer["error"].startswith(f"on {socket.gethostname()}: ")
    assert answer["exit_code"] == 3


@pytest.mark.parametrize(("name", "shown"), [("gone.onnx", "gone.onnx"), (f"{MARKER}12", "")])
def test_a_machine_that_does_not_see_what_the_first_one_has_says_so(make_actor, tmp_path, name, shown):
    (answer,) = answers(make_actor(seen=(tmp_path, tmp_path / name), host="head"), ["one.tar"])
    place = str(tmp_path / shown) if shown else str(tmp_path)
    assert f"{place}: what head has there, the process on {socket.gethostname()} does not see" in answer["error"]
    assert answer["exit_code"] == 2
    (answer,) = answers(make_actor(version="0.0.1"), ["one.tar"])
    assert "lfm-deploy is 0.0.1 on" in answer["error"]


def test_a_part_or_an_engine_that_kills_whoever_takes_it_is_given_up(make_actor):
    tally = Tally()
    for process in (1, 2, 3):
        tally.begin("part 0", "one.tar", "host", process)
    actor = make_actor(tally)
    lost, *others = answers(actor)
    assert lost["lost"] == "3 processes died while they judged it"
    assert all("run" in answer for answer in others)
    for process in (1, 2, 3):
        tally.begin("engine of 1", "the engine", "host", process)
    (answer,) = answers(make_actor(tally), ["one.tar"])
    assert answer["error"] == "3 processes died while they opened the engine"


def test_a_part_that_is_judged_again_after_a_death_is_said_to_be(make_actor):
    tally = Tally()
    tally.begin("part 0", "one.tar", "host", 1)
    (answer,) = answers(make_actor(tally), ["one.tar"])
    assert answer["messages"][-1] == "judging one.tar again: the process that had it died"
    assert answer["run"]["judged"] == 1
    assert tally.read().pictures == 3


def test_strict_stops_at_a_picture_that_cannot_be_judged(make_actor):
    (answer,) = answers(make_actor(strict=True), ["photos"])
    assert answer["error"].startswith("photos/2x.png: ")
    assert answer["exit_code"] == 2


@pytest.mark.parametrize(
    ("failure", "line", "code"),
    [
        (ZeroDivisionError("nought"), "one.tar: ZeroDivisionError: nought", 1),
        (MemoryError(), "one.tar: not enough memory; use smaller batches (--batch) or fewer --actors", 1),
        (PermissionError(13, "Permission denied"), "one.tar: PermissionError: [Errno 13] Permission denied", 2),
    ],
)
def test_an_error_that_nobody_expected_is_an_answer_too(make_actor, monkeypatch, capsys, failure, line, code):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr(ray_actor, "judge_parts", fail)
    (answer,) = answers(make_actor(), ["one.tar"])
    assert (answer["error"], answer["exit_code"]) == (line, code)
    # The page that explains it is in the log of the process.
    assert ("Traceback" in capsys.readouterr().err) == (type(failure) is not MemoryError)


def test_pictures_are_told_of_now_and_then(make_actor):
    tally = Tally()
    list(answers(make_actor(tally)))
    assert tally.read().pictures == sum(read_head(path).counts.pictures for path in Path("out").iterdir())
