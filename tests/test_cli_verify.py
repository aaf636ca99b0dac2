"""`lfm-deploy verify` beside its cache: options, interruptions, and what a second run loads. Signals go to processes
of their own."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from waiting import wait_for

from lfm_deploy.cli import run
from lfm_deploy.scoring.scorers import published_reading
from lfm_deploy.suites import load_suites
from lfm_deploy.verification.verification import verify
from lfm_deploy.verification.verify_options import VerifyOptions
from lfm_deploy.workdir import Workdir

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}


@pytest.fixture
def own_small(small_workdir, tmp_path):
    shutil.copytree(small_workdir.path, tmp_path / "deploy")
    return Workdir(tmp_path / "deploy")


@pytest.fixture
def many(pictures, tmp_path):
    """192 files of different content, so that a run takes long enough to be interrupted."""
    for path in sorted(pictures.glob("*/*/*.png")):
        for copy in range(8):
            home = tmp_path / "many" / path.parent.name
            home.mkdir(parents=True, exist_ok=True)
            # Bytes behind the end of a PNG are no part of the picture.
            (home / f"{path.stem}-{path.parent.parent.name}-{copy:02}.png").write_bytes(
                path.read_bytes() + b"%d" % copy
            )
    return tmp_path / "many"


def count_kept(path):
    """How many logits are on the disk at this moment."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT count(*) FROM scores").fetchone()[0]
    except sqlite3.OperationalError:
        return 0  # not made yet


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_costs_only_what_is_new_and_leaves_no_report(own_small, many, sent):
    for path in own_small.reports:
        path.write_text("of an earlier run")
    command = [sys.executable, "-m", "lfm_deploy", "verify", "--suite", many, "--no-speed", "--batch", "2"]
    process = subprocess.Popen(
        [*command, "--workdir", own_small.path], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: process.poll() is not None or count_kept(own_small.score_cache) >= 20)
    process.send_signal(sent)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if sent is signal.SIGINT else -signal.SIGKILL)
    if sent is signal.SIGINT:
        assert said.splitlines()[-1] == (
            "Interrupted, there is no report; the scores so far are kept, and the same command goes on from there."
        )
        assert "Traceback" not in said
    assert not any(path.exists() for path in own_small.reports)
    kept = count_kept(own_small.score_cache)
    assert 20 <= kept < 2 * 192
    found = verify(own_small, load_suites(many), VerifyOptions(speed_seconds=0))
    assert sum(engine.cached for engine in found.engines) == kept
    assert found.passed


SECOND_RUN = """
import json, sys
from pathlib import Path
from lfm_deploy.cli import run
from lfm_deploy.suites import load_suites
from lfm_deploy.verification.verify_options import VerifyOptions
from lfm_deploy.verification.verification import verify
from lfm_deploy.workdir import Workdir

workdir, pictures = sys.argv[1:]
found = verify(Workdir(Path(workdir)), load_suites(pictures), VerifyOptions(speed_seconds=0.01))
code = run(["verify", "--suite", pictures, "--workdir", workdir, "--no-speed"])
heavy = [name for name in ("torch", "onnxruntime", "onnx", "openvino", "matplotlib", "sklearn") if name in sys.modules]
speeds = [speed.measured_at for engine in found.engines for speed in engine.speeds]
print(json.dumps({"code": code, "heavy": heavy, "speeds": speeds, "cached": [e.cached for e in found.engines]}))
"""


def test_a_second_run_loads_no_engine(own_small, pictures):
    first = verify(own_small, load_suites(pictures), VerifyOptions(speed_seconds=0.01))
    assert run(["verify", "--suite", str(pictures), "--workdir", str(own_small.path), "--no-speed"]) == 0
    finished = subprocess.run(
        [sys.executable, "-c", SECOND_RUN, own_small.path, pictures],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    second = json.loads(finished.stdout.splitlines()[-1])
    assert (second["code"], second["heavy"], second["cached"]) == (0, [], [24, 24])
    assert second["speeds"] == [speed.measured_at for engine in first.engines for speed in engine.speeds]
    reference, graph = first.engines
    assert [speed.times_pytorch for speed in reference.speeds] == [1, 1, 1]
    assert all(speed.times_pytorch > 0 for speed in graph.speeds)


@pytest.fixture
def call(own_small, capfd):
    def call(suite, *options):
        capfd.readouterr()
        code = run(["verify", "--suite", str(suite), "--no-speed", "--workdir", str(own_small.path), *options])
        return code, *capfd.readouterr()

    return call


def test_options(call, own_small, pictures, tmp_path):
    code, _, err = call(pictures, "--no-cache", "--limits", "acc=0.5,flips=1%", "--allow-undecided")
    assert (code, own_small.score_cache.exists()) == (0, False)
    # The graph is for 256 pixels.
    code, _, err = call(pictures, "--size", "native")
    assert (code, "--dynamic-size" in err) == (2, True)
    for suite, *options, complaint in (
        ("diffusion", "--size", "256", "leave --size out"),
        (pictures, "--limits", "loss=1", "cannot read 'loss=1'"),
        (tmp_path / "none.csv", "none.csv: cannot be read"),
        (pictures, "--size", "12", "256"),
    ):
        code, out, err = call(suite, *options)
        assert (code, out) == (2, "")
        assert complaint in err


def test_a_list_is_a_suite_and_a_file_under_both_labels_is_told(call, own_small, pictures, tmp_path):
    paths = sorted(pictures.glob("*/*/*.png"))
    lines = [f"{path},{path.parent.name[2:]},{path.parent.parent.name}" for path in paths]
    copy = tmp_path / "copy.png"
    shutil.copy(pictures / "first" / "0_real" / "00.png", copy)
    (tmp_path / "mine.csv").write_text("\n".join(["path,label,set", *lines, "copy.png,fake,first", ""]))
    code, _, err = call(tmp_path / "mine.csv")
    assert code == 0
    assert f"Warning: mine: the same file is real and fake: {pictures}/first/0_real/00.png and {copy}" in err
    report = json.loads(own_small.report.read_text())
    assert report["engines"][0]["suites"][0]["pictures"] == 25


def test_a_cache_that_cannot_be_opened_is_one_line(call, own_small, pictures):
    own_small.score_cache.mkdir()
    code, _, err = call(pictures)
    assert code == 1
    (line,) = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert "scores.sqlite: the cache of scores cannot be used" in line
    assert "--no-cache" in line
    assert call(pictures, "--no-cache")[0] == 0


def test_the_batch_is_no_part_of_what_a_logit_is():
    assert published_reading(256, batch=1).values == published_reading(256, batch=32).values
