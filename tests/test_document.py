import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from lfm_deploy.artifacts import Precision
from lfm_deploy.benchmark import Speed
from lfm_deploy.comparison import Scores
from lfm_deploy.images import SkippedImage
from lfm_deploy.report.document import make_report, scores_as_rows
from lfm_deploy.verification import EngineResult, Verification


def engine(name, fps, not_run=None):
    speeds = tuple(
        Speed(batch=batch, fps=value, latency_ms=1e3 * batch / value, spread=0.1, runs=5, threads=2)
        for batch, value in fps.items()
    )
    return EngineResult(
        name=name,
        path=Path(f"deploy/{name}.onnx"),
        place="x on cpu",
        sha256="a" * 64,
        precision=Precision.FP16,
        not_run=not_run,
        speeds=speeds,
    )


@pytest.fixture
def found():
    """Two engines without gates, and one that was not run, over one test set."""
    scores = Scores(
        paths=(Path("a.png"), Path("b<r>.png"), Path("c.png")),
        labels=np.array([0, 0, 1]),
        logits=np.array([-1.5, 0.25, np.nan], dtype=np.float32),
    )
    return Verification(
        engines=[engine("pytorch", {1: 20.0, 8: 25.0}), engine("ort", {1: 30.0}), engine("rtx", {}, "no CUDA device")],
        scores={("pytorch", "s"): [("one", scores)]},
        skipped=[SkippedImage(Path("broken.png"), "the file is empty")],
    )


def made(found, **options):
    return make_report(found, suites={"s": "native"}, device="cpu", **options)


def test_it_is_json_and_says_where_its_figures_come_from(found):
    report = json.loads(json.dumps(made(found)))
    assert report["format"] == "lfm-deploy report 3"
    assert report["environment"]["processor"]
    assert report["environment"]["threads"] >= 1
    assert {"torch", "onnxruntime"} <= set(report["environment"]["libraries"])
    assert all(len(engine["sha256"]) == 64 for engine in report["engines"])
    assert report["skipped"] == [{"path": "broken.png", "reason": "the file is empty"}]


def test_it_says_when_and_by_which_command(found):
    at = datetime(2026, 11, 25, 3, 0, 0, tzinfo=timezone(timedelta(hours=1)))
    command = ["lfm-deploy", "verify", "--suite", "my pictures"]
    assert made(found, at=at, command=command)["made"] == {"at": "2026-11-25T02:00:00Z", "command": command}
    own = made(found)["made"]
    assert own["command"][0] == "lfm-deploy"
    written = datetime.fromisoformat(own["at"])
    assert abs(datetime.now(UTC) - written) < timedelta(minutes=5)


def test_suites_say_what_was_judged(found):
    published = {"tables": ["I"], "sets": ["one", "mean"], "rows": []}
    (suite,) = made(found, published={"s": published})["suites"]
    assert (suite["name"], suite["size"], suite["pictures"]) == ("s", "native", 3)
    assert suite["sets"] == [{"name": "one", "real": 2, "fake": 1}]
    assert suite["published"] == published
    assert made(found)["suites"][0]["published"] is None


def test_speeds_are_set_against_pytorch_at_the_same_batch(found):
    reference, ort, rtx = made(found)["engines"]
    assert [speed["times_pytorch"] for speed in reference["speeds"]] == [None, None]
    assert [speed["times_pytorch"] for speed in ort["speeds"]] == [1.5]
    assert rtx["speeds"] == []


def test_the_reference_is_told_from_the_engines(found):
    report = made(found)
    assert [engine["kind"] for engine in report["engines"]] == ["reference", "engine", "engine"]
    assert report["verdict"]["not_run"] == ["rtx"]


def test_where_nothing_was_compared_nothing_passed(found):
    found.engines = [found.engines[0], found.engines[2]]
    assert (made(found)["verdict"]["outcome"], made(found)["verdict"]["passed"]) == ("nothing", False)


def test_limits_of_ones_own_are_stated(found):
    limits = {"acc": 0.5, "ap": 0.5, "flips": 1.0}
    assert made(found, limits=limits)["limits"] == limits
    assert made(found)["limits"] is None


def test_every_logit_is_a_row(found):
    rows = scores_as_rows(found)
    assert [row["path"] for row in rows] == ["a.png", "b<r>.png", "c.png"]
    assert [row["label"] for row in rows] == [0, 0, 1]
    assert rows[1] | {"category": None} == {
        "engine": "pytorch",
        "suite": "s",
        "set": "one",
        "category": None,
        "path": "b<r>.png",
        "label": 0,
        "logit": 0.25,
    }
