"""One results file as Parquet: the rows of CSV, whole or not at all, and continued to the byte."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from waiting import wait_for

from lfm_deploy.cli import run
from lfm_deploy.errors import InputError
from lfm_deploy.pictures.images import find_images
from lfm_deploy.prediction.rows import RowFormat
from lfm_deploy.prediction.whole_file import WholeFile
from lfm_deploy.storage.atomic import sha256_of_file

pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def call(capfdbinary, small_workdir):
    def call(*arguments):
        code = run(["predict", *map(str, arguments), "--workdir", str(small_workdir.path)])
        out, err = capfdbinary.readouterr()
        assert b"Traceback" not in err
        return code, out, err.decode()

    return call


def folder_now():
    return sorted(path.name for path in Path().iterdir())


@pytest.mark.parametrize("arguments", [["--format", "parquet"], []])
def test_values_are_those_of_csv(call, pictures, arguments):
    shutil.copytree(pictures, "pictures")
    Path("pictures/\udcff, \n.png").write_bytes(b"broken")
    _, wanted, _ = call("pictures", "--format", "csv")
    code, out, err = call("pictures", "--output", "x.parquet", *arguments)
    assert (code, out) == (0, b"")
    assert "25 pictures: " in err
    assert "written: x.parquet" in err
    table = pq.read_table("x.parquet").to_pydict()
    rows = list(csv.DictReader(io.StringIO(wanted.decode("utf-8", "backslashreplace"), newline="")))
    assert table["path"] == [row["path"] for row in rows]
    assert [None if value is None else str(np.float32(value)) for value in table["logit"]] == [
        row["logit"] or None for row in rows
    ]
    for name in ("verdict", "error", "notes"):
        assert [value or "" for value in table[name]] == [row[name] for row in rows]
    assert b'"format": "parquet"' in pq.read_schema("x.parquet").metadata[b"lfm_deploy"]
    assert folder_now() == ["pictures", "x.parquet"]


def test_what_is_there_stays_unless_it_is_ours_and_may_go(call, pictures):
    assert call(pictures, "--output", "x.parquet")[0] == 0
    code, _, err = call(pictures, "--output", "x.parquet")
    assert code == 2
    assert "is there already, and complete" in err
    assert call(pictures / "first", "--output", "x.parquet", "--overwrite")[0] == 0
    assert pq.read_table("x.parquet").num_rows == 12
    Path("mine.parquet").write_bytes(b"mine")
    code, _, err = call(pictures, "--output", "mine.parquet", "--overwrite")
    assert code == 2
    assert "not written by lfm-deploy" in err
    assert Path("mine.parquet").read_bytes() == b"mine"
    assert folder_now() == ["mine.parquet", "x.parquet"]


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(call, pictures, small_workdir):
    Path("list.txt").write_text("\n".join(map(str, find_images(pictures) * 8)))
    command = [sys.executable, "-m", "lfm_deploy", "predict", "@list.txt", "--output", "x.parquet"]
    command += ["--workdir", str(small_workdir.path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    rows = Path("x.parquet.rows.jsonl")

    def stop(number):
        before = rows.stat().st_size if rows.exists() else 0
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        wait_for(lambda: (rows.exists() and rows.stat().st_size > before + 2000) or process.poll())
        process.send_signal(number)
        _, err = process.communicate()
        assert not Path("x.parquet").exists()
        return process.returncode, err

    assert stop(signal.SIGKILL)[0] == -signal.SIGKILL
    code, err = stop(signal.SIGINT)
    assert code == 130
    assert "the same command again continues" in err
    code, _, err = call("@list.txt", "--output", "x.parquet")
    assert code == 0
    assert "x.parquet: continuing behind " in err
    assert folder_now() == ["list.txt", "x.parquet"]
    assert call("@list.txt", "--output", "y.parquet")[0] == 0
    assert sha256_of_file(Path("x.parquet")) == sha256_of_file(Path("y.parquet"))


@pytest.mark.parametrize("spoilt", [b"\xff\n", b"{}\n", b"[]\n", b'{"notes": 5}\n', b'{"notes": [], "logit": "a"}\n'])
def test_rows_that_somebody_mended_to_no_rows_are_one_line(tmp_path, spoilt):
    def begin():
        return WholeFile(tmp_path / "x.parquet", {}, b"", RowFormat.PARQUET)

    file = begin()
    with file:
        file.append(b"", ["a.png"])
    rows = tmp_path / "x.parquet.rows.jsonl"
    rows.write_bytes(spoilt)
    progress = rows.with_name(f"{rows.name}.progress.json")
    values = json.loads(progress.read_text())
    sums = {"bytes": len(spoilt), "content_sha256": sha256_of_file(rows)}
    progress.write_text(json.dumps(values | sums))
    with begin() as file, pytest.raises(InputError, match=r"x\.parquet\.rows\.jsonl: holds rows .*--overwrite"):
        file.finish()
    assert not (tmp_path / "x.parquet").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--format", "parquet"],
        ["--format", "parquet", "--output", "x.csv"],
        ["--format", "csv", "--output", "x.parquet"],
        ["--json", "--output", "x.parquet"],
    ],
)
def test_names_that_promise_other_rows_are_refused(call, pictures, arguments):
    code, _, err = call(pictures, *arguments)
    assert code == 2
    assert "--output FILE.parquet, or --output-dir OUT" in err
    assert folder_now() == []


def test_without_pyarrow_it_is_said_before_anything_is_judged(call, pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    for arguments in (["--output", "x.parquet"], ["--output-dir", "out", "--format", "parquet"]):
        code, _, err = call(pictures, *arguments)
        assert code == 3
        assert "lfm-deploy[parquet]" in err
    assert not list(Path().rglob("*.parquet*"))
