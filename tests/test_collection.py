"""Parts put together: predict's own bytes, or what is wrong with them."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from shard_list import make_list
from waiting import wait_for

import lfm_deploy
from lfm_deploy.cli import run
from lfm_deploy.errors import ArtifactError, InputError
from lfm_deploy.prediction.collection import collect_parts, write_collection
from lfm_deploy.prediction.judges import open_judge
from lfm_deploy.prediction.part_files import read_head, read_rows, write_part
from lfm_deploy.prediction.part_run import judge_parts
from lfm_deploy.prediction.parts import find_parts
from lfm_deploy.prediction.rows import RowFormat


@pytest.fixture(autouse=True)
def listed(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_list(pictures, tmp_path)


@pytest.fixture
def out(listed, small_workdir, tmp_path):
    judge = open_judge(small_workdir)
    judge_parts(judge, find_parts(["@list.txt"]), tmp_path / "out", RowFormat.CSV)
    judge.engine.close()
    return tmp_path / "out"


def parts():
    return find_parts(["@list.txt"])


def file_of(out, name):
    return next(out / part.file_name for part in parts() if part.name == name)


@pytest.fixture
def call(capfdbinary):
    def call(*arguments):
        code = run([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        assert b"Traceback" not in err
        return code, out, err.decode()

    return call


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_tasks_of_an_array_and_collect_give_the_bytes_of_predict(call, small_workdir, form, monkeypatch, tmp_path):
    workdir = ("--workdir", small_workdir.path)
    _, wanted, _ = call("predict", "@list.txt", "--format", form, *workdir)
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "3")
    for task in (3, 1, 2):
        code, _, _ = call("collect", "out", "--list", "list.txt")
        assert code == 2  # until the last one is done
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        code, out, err = call("predict", "--from-list", "list.txt", "--output-dir", "out", "--format", form, *workdir)
        assert code == 0
        assert out == b""
        assert f"part {task} of 3, by SLURM_ARRAY_TASK_ID: 2 of 6 shards" in err
    code, found, err = call("collect", "out", "--list", "list.txt")
    assert code == 0
    assert found == wanted
    assert "6 parts; 18 pictures: " in err
    assert "one engine" in err
    assert "could not be read whole: bad.tar: " in err
    code, out, _ = call("collect", "out", "@list.txt", "--output", f"all.{form}", "--json")
    assert (tmp_path / f"all.{form}").read_bytes() == wanted
    summary = json.loads(out)
    assert (summary["parts"], summary["pictures"], summary["not_judged"]) == (6, 18, 3)
    assert list(summary["unreadable"]) == ["bad.tar", "no such.zip"]


@pytest.mark.parametrize(
    ("content", "shown"),
    [(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", r"\x89PNG and 2 more"), (b"\xff" * 3000, r"\xff" * 50 + " ...")],
)
def test_a_list_that_is_none_is_not_quoted_in_its_bytes(out, call, content, shown):
    (out.parent / "no list.png").write_bytes(content)
    code, _, err = call("collect", "out", "--list", "no list.png")
    assert code == 2
    assert f"1 missing ({shown})" in err
    assert "6 foreign" in err
    assert err.rstrip("\n").isprintable()


def test_what_is_missing_double_foreign_and_damaged_is_listed(out, call):
    shutil.move(file_of(out, "two.zip"), out / "hidden")
    shutil.copy(file_of(out, "one.tar"), out / "copy.part")
    lines = (out.parent / "list.txt").read_text().replace("three.tar.gz\n", "")
    (out.parent / "list.txt").write_text(lines)
    (out / "other.part").write_bytes(b"something else")
    with pytest.raises(InputError) as caught:
        collect_parts(out, parts())
    said = str(caught.value)
    assert "1 missing (two.zip)" in said
    assert "2 double (copy.part, one.tar-" in said
    assert "1 foreign (three.tar.gz-" in said
    assert "1 damaged (other.part)" in said
    code, found, err = call("collect", "out", "--list", "list.txt", "--output", "all.csv")
    assert (code, found, err) == (2, b"", f"Error: {said}\n".replace(str(out), "out"))
    assert not (out.parent / "all.csv").exists()


def test_many_that_are_missing_are_counted(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "many.txt").write_text("\n".join(f"{index}.tar" for index in range(30)))
    with pytest.raises(InputError, match=r"30 missing \(0\.tar, 1\.tar, .* and 10 more\)"):
        collect_parts(tmp_path / "out", find_parts(["@many.txt"]))
    with pytest.raises(InputError, match="no such folder"):
        collect_parts(tmp_path / "nowhere", parts())


def test_parts_of_another_contract_are_refused_and_machines_of_another_kind_are_not(out, small_workdir):
    path = file_of(out, "one.tar")
    head = read_head(path)
    rows = read_rows(path, head)
    write_part(path, replace(head, machine=head.machine | {"processor": "another"}), rows)
    assert collect_parts(out, parts()).machines == 2
    judge = open_judge(small_workdir, threshold=3)
    judge_parts(judge, find_parts(["one.tar"]), out, RowFormat.CSV, overwrite=True)
    judge.engine.close()
    with pytest.raises(InputError, match=r"in 2 ways: 1 of 6 \(one\.tar-.*threshold 0\.0 and 3"):
        collect_parts(out, parts())


def test_rows_that_were_changed_leave_nothing(out, tmp_path):
    path = file_of(out, "three.tar.gz")
    path.write_bytes(path.read_bytes()[:-2] + b"x\n")
    found = collect_parts(out, parts())
    with pytest.raises(ArtifactError, match="rows are not those"):
        write_collection(found, tmp_path / "all.csv")
    assert not (tmp_path / "all.csv").exists()
    assert not list(tmp_path.glob(".*"))


def test_nothing_that_is_read_is_written_over(out, tmp_path):
    found = collect_parts(out, parts())
    first = found.files[0][0]
    (tmp_path / "mine.csv").write_text("mine")
    for output, said in (
        (tmp_path / "list.txt", "one of the inputs"),
        (first, "one of the inputs"),
        (out / "new.part", "called like"),
        (tmp_path / "x.png", "called like"),
        (tmp_path / "mine.csv", "not written by predict"),
    ):
        before = output.read_bytes() if output.exists() else None
        with pytest.raises(InputError, match=said):
            write_collection(found, output, inputs=["list.txt"], overwrite=True)
        assert (output.read_bytes() if output.exists() else None) == before
    write_collection(found, tmp_path / "all.csv")
    with pytest.raises(InputError, match="is there already"):
        write_collection(found, tmp_path / "all.csv")
    write_collection(found, tmp_path / "all.csv", overwrite=True)
    buffer = io.BytesIO()
    buffer.writelines(found.rows())
    assert (tmp_path / "all.csv").read_bytes() == buffer.getvalue()


def test_a_parquet_file_has_the_same_rows_and_replaces_nothing_but_its_own_kind(out, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    found, output = collect_parts(out, parts()), tmp_path / "all.parquet"
    write_collection(found, output)
    rows = list(csv.DictReader(io.StringIO(b"".join(found.rows()).decode())))
    table = pq.read_table(output).to_pydict()
    assert table["path"] == [row["path"] for row in rows]
    assert [None if value is None else str(np.float32(value)) for value in table["logit"]] == [
        row["logit"] or None for row in rows
    ]
    write_collection(found, output, overwrite=True)
    output.write_bytes(b"mine")
    with pytest.raises(InputError, match="not written by lfm-deploy"):
        write_collection(found, output, overwrite=True)
    assert output.read_bytes() == b"mine"
    with pytest.raises(InputError, match="which are csv"):
        write_collection(found, tmp_path / "all.jsonl")


def test_the_python_call_gives_what_the_command_gives(out, call, tmp_path):
    _, wanted, _ = call("collect", "out", "--list", "list.txt")
    _, printed, _ = call("collect", "out", "@list.txt", "--output", "all.csv", "--json")
    found = lfm_deploy.collect("out", lists=["list.txt"])
    assert isinstance(found, lfm_deploy.Collection)
    assert b"".join(found.rows()) == wanted
    assert found.describe() == {name: value for name, value in json.loads(printed).items() if name != "output"}
    lfm_deploy.collect(out, "@list.txt", output=tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_bytes() == wanted
    with pytest.raises(InputError, match="is there already"):
        lfm_deploy.collect(out, ["@list.txt"], output="mine.csv")
    with pytest.raises(InputError, match="one of the inputs"):
        lfm_deploy.collect(out, ["@list.txt"], output="list.txt", overwrite=True)
    lfm_deploy.collect(out, ["@list.txt"], output="mine.csv", overwrite=True)
    with pytest.raises(InputError, match="foreign"):
        lfm_deploy.collect(out, ["one.tar"])
    with pytest.raises(InputError, match="nothing to read"):
        lfm_deploy.collect(out)


def test_parts_as_parquet_are_collected_to_the_bytes_of_csv(call, small_workdir, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    workdir = ("--workdir", small_workdir.path)
    _, wanted, _ = call("predict", "@list.txt", "--format", "csv", *workdir)
    assert call("predict", "@list.txt", "--output-dir", "out", "--format", "parquet", *workdir)[0] == 0
    assert call("collect", "out", "@list.txt")[:2] == (0, wanted)
    assert call("collect", "out", "@list.txt", "--output", "all.csv")[0] == 0
    assert (tmp_path / "all.csv").read_bytes() == wanted
    assert call("collect", "out", "@list.txt", "--output", "all.parquet")[0] == 0
    rows = list(csv.DictReader(io.StringIO(wanted.decode())))
    assert pq.read_table("all.parquet")["path"].to_pylist() == [row["path"] for row in rows]
    # As other tools read a folder of them.
    assert pq.read_table("out").num_rows == len(rows)
    assert call("collect", "out", "@list.txt", "--output", "all.jsonl")[0] == 2


def test_a_list_may_be_a_pipe_which_is_read_once(call, small_workdir, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    lines = (tmp_path / "list.txt").read_bytes()
    with ThreadPoolExecutor(1) as pool:
        pool.submit((tmp_path / "pipe").write_bytes, lines)
        code, _, err = call("predict", "@pipe", "--output-dir", "out", "--workdir", small_workdir.path)
    assert code == 0
    assert "6 parts judged" in err


def test_what_comes_twice_is_said_before_anything_is_judged(call, small_workdir, tmp_path):
    code, _, err = call(
        "predict", "one.tar", "two.zip", "one.tar", "--output-dir", "out", "--workdir", small_workdir.path
    )
    assert code == 2
    assert err.startswith("Error: one.tar: comes twice")
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_killed_goes_on_and_gives_the_bytes_of_one_that_was_not(call, small_workdir, tmp_path):
    workdir = ("--workdir", small_workdir.path)
    _, wanted, _ = call("predict", "@list.txt", "--format", "csv", *workdir)
    arguments = ("predict", "@list.txt", "--output-dir", "out", *map(str, workdir))
    process = subprocess.Popen([sys.executable, "-m", "lfm_deploy", *arguments], stderr=subprocess.DEVNULL)
    wait_for(lambda: any((tmp_path / "out").glob("*.part")) or process.poll() is not None)
    process.kill()
    process.wait()
    assert call(*arguments)[0] == 0
    assert call("collect", "out", "@list.txt")[:2] == (0, wanted)
    assert all(path.suffix == ".part" for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["collect", "out"],
        ["collect", "out", "--list", "list.txt", "--json"],
        ["collect", "out", "--list", "list.txt", "--overwrite"],
        ["predict", "one.tar", "--part", "1/2"],
        ["predict", "one.tar", "--output-dir", "new", "--output", "x.csv"],
        ["predict", "one.tar", "--output-dir", "new", "--evidence", "drawings"],
        ["predict", "one.tar", "--output-dir", "new", "--format", "table"],
        ["predict", "one.tar", "--output-dir", "new", "--part", "3/2"],
        ["predict", "one.tar", "one.tar", "--output-dir", "new"],
        ["predict", "--from-list", "no.txt", "--output-dir", "new"],
        ["predict", "one.tar", "--output-dir", "list.txt"],
        ["predict", "one.tar", "--output-dir", "new/out", "--engine", "no.onnx"],
    ],
)
def test_what_makes_no_sense_is_bad_input_and_leaves_no_folder(call, small_workdir, arguments, tmp_path):
    workdir = ["--workdir", small_workdir.path] if arguments[0] == "predict" else []
    code, out, err = call(*arguments, *workdir)
    assert (code, out) == (2, b"")
    assert err.splitlines()[-1].startswith("Error: ")
    assert not (tmp_path / "new").exists()
