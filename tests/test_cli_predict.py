"""``lfm-deploy predict`` as people and scripts meet it."""

import csv
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin
from waiting import wait_for

from lfm_deploy.cli import run
from lfm_deploy.pictures.images import find_images
from lfm_deploy.prediction.proved_range import FORMAT
from lfm_deploy.prediction.resumption import progress_path
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.workdir import Workdir

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def call(capfd, monkeypatch, tmp_path):
    """Run the command line in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


@pytest.fixture
def workdir(small_workdir):
    return ("--workdir", small_workdir.path)


@pytest.fixture
def mixed(pictures, tmp_path):
    """Ten pictures, and a broken one at the third place."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for index, path in enumerate(find_images(pictures)[:10]):
        shutil.copy(path, folder / f"{index:02}.png")
    (folder / "01x.png").write_bytes(b"broken")
    return folder


def test_csv_table_and_json_lines_say_the_same(call, workdir, mixed):
    code, out, err = call("predict", "mixed", *workdir)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert [row["path"] for row in rows] == [f"mixed/{path.name}" for path in sorted(mixed.iterdir())]
    assert rows[2] == {
        "path": "mixed/01x.png",
        "logit": "",
        "probability": "",
        "verdict": "",
        "error": "cannot be read: not a picture of a known format",
        "notes": "",
    }
    assert "taking" in err
    assert "lfm.onnx" in err
    assert "11 pictures: " in err
    assert "1 not judged" in err
    for arguments in (["--json"], ["--format", "jsonl"]):
        code, out, _ = call("predict", "mixed", *arguments, *workdir)
        lines = [json.loads(line) for line in out.splitlines()]
        assert code == 0
        assert [line["verdict"] for line in lines] == [row["verdict"] or None for row in rows]
        assert [line["logit"] for line in lines] == [float(row["logit"]) if row["logit"] else None for row in rows]
    code, out, _ = call("predict", "mixed", "--format", "table", *workdir)
    lines = out.splitlines()
    assert (code, len(lines)) == (0, 12)
    assert [line.split()[0] for line in lines[1:]] == [row["verdict"] or "-" for row in rows]


def test_the_threshold_decides(call, workdir, mixed):
    _, out, _ = call("predict", "mixed", "--threshold", "1e9", *workdir)
    assert {row["verdict"] for row in csv.DictReader(io.StringIO(out))} == {"real", ""}
    _, out, _ = call("predict", "mixed", "--threshold", "-1e9", *workdir)
    assert {row["verdict"] for row in csv.DictReader(io.StringIO(out))} == {"fake", ""}


def test_lists_patterns_and_shards(call, workdir, mixed, tmp_path):
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.write(mixed / "03.png", "../inner/03.png")
    (tmp_path / "list.txt").write_text("mixed/00.png\ns.zip\n")
    for arguments in (["@list.txt"], ["--from-list", "list.txt"]):
        code, out, _ = call("predict", *arguments, "mixed/0[45].png", *workdir)
        paths = [row["path"] for row in csv.DictReader(io.StringIO(out))]
        assert code == 0
        assert sorted(paths) == ["mixed/00.png", "mixed/04.png", "mixed/05.png", "s.zip/../inner/03.png"]


def test_strict_is_exit_2_and_names_the_first(call, workdir, mixed):
    code, out, err = call("predict", "mixed", "--strict", *workdir)
    assert (code, len(out.splitlines())) == (2, 3)
    assert "Error: mixed/01x.png: cannot be read" in err


def test_evidence_is_drawn_for_what_was_judged(call, workdir, mixed, tmp_path):
    code, _, err = call("predict", "mixed", "--evidence", "drawn", *workdir)
    assert code == 0
    assert "drawing evidence of lfm.pth in PyTorch, float32 into drawn" in err
    names = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert (len(names), names[:3]) == (10, ["000001-00.png", "000002-01.png", "000004-02.png"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name pictures, folders or shards"),
        (["none.png"], "none.png: no such file or folder"),
        (["@none.txt"], "none.txt: no such list"),
        (["empty"], "nothing to read: no picture in empty"),
        (["mixed", "--json", "--format", "csv"], "exclude each other"),
        (["mixed", "--engine", "x.onnx", "--precision", "fp16"], "exclude each other"),
        (["mixed", "--overwrite"], "is for --output"),
        (["mixed", "--output", "x.csv", "--format", "table"], "takes --format csv, jsonl or parquet"),
        (["mixed", "--engine", "x.onnx"], "x.onnx: no such file"),
        (["mixed", "--precision", "int8"], "lfm-deploy build --int8 --target cpu"),
        (["mixed", "--batch", "0"], "--batch"),
    ],
)
def test_wrong_usage_is_exit_2(call, workdir, mixed, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    code, out, err = call("predict", *arguments, *workdir)
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "x.csv").exists()


def test_an_output_file_is_what_stdout_would_have_been(call, workdir, mixed, tmp_path):
    for suffix, form in (("csv", "csv"), ("jsonl", "jsonl"), ("txt", "csv")):
        _, expected, _ = call("predict", "mixed", "--format", form, *workdir)
        code, out, err = call("predict", "mixed", "--output", f"out.{suffix}", *workdir)
        assert (code, out) == (0, "")
        assert f"written: out.{suffix}" in err
        assert (tmp_path / f"out.{suffix}").read_text() == expected
    code, _, err = call("predict", "mixed", "--output", "out.csv", *workdir)
    assert code == 2
    assert "out.csv: is there already, and complete" in err
    code, _, _ = call("predict", "mixed/00.png", "--output", "out.csv", "--overwrite", *workdir)
    assert (code, len((tmp_path / "out.csv").read_text().splitlines())) == (0, 2)


@pytest.fixture
def start():
    """Start ``predict`` in a process of its own, which does not outlive the test."""
    started = []

    def start(arguments, folder, **options):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "lfm_deploy", "predict", *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        started.append(subprocess.Popen(command, cwd=folder, env=environment, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


def test_rows_come_while_the_list_is_still_being_written(start, workdir, mixed):
    process = start(["-", "--batch", "2", *workdir], mixed, stdout=subprocess.PIPE)
    process.stdin.write(b"00.png\n01.png\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"path,logit,probability,verdict,error,notes\n"
    assert process.stdout.readline().startswith(b"00.png,")
    assert process.stdout.readline().startswith(b"01.png,")
    out, _ = process.communicate(b"02.png\n", timeout=60)
    assert out.startswith(b"02.png,")
    assert process.returncode == 0


def test_a_reader_that_has_enough_is_no_error(start, workdir, mixed):
    process = start(["-", "--batch", "1", *workdir], mixed, stdout=subprocess.PIPE)
    process.stdin.write(b"00.png\n")
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.close()
    process.stdin.write(b"00.png\n" * 20)
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    assert b"Error" not in (said := process.stderr.read())
    assert b"Exception" not in said
    assert b"Traceback" not in said


def test_an_interrupt_says_how_to_go_on(start, workdir, mixed, tmp_path):
    process = start(["-", "--batch", "2", "--output", "x.csv", *workdir], mixed)
    process.stdin.write(b"00.png\n01.png\n02.png\n")
    process.stdin.flush()
    wait_for(lambda: (mixed / "x.csv").is_file() and b"01.png" in (mixed / "x.csv").read_bytes())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Interrupted after 2 pictures; the same command again continues." in err
    assert b"Traceback" not in err
    assert progress_path(mixed / "x.csv").is_file()


def test_killed_at_random_moments_it_continues_and_the_file_is_the_same_byte_for_byte(
    start, workdir, pictures, tmp_path
):
    """The list is written a few names at a time, so that each kill comes between, or in the middle of, groups."""
    names = [os.fsencode(path) for path in find_images(pictures)] * 2
    names[5] = names[30] = b"missing.png"
    whole = start(["-", "--batch", "3", "--output", "whole.csv", *workdir], tmp_path)
    whole.communicate(b"\n".join(names), timeout=60)
    assert whole.returncode == 0
    output = tmp_path / "killed.csv"
    random_ = random.Random(0)
    continued = 0
    for enough in (4, 17, 33, None):
        arguments = ["-", "--batch", "3", "--output", output, *workdir]
        process = start(arguments, tmp_path)
        if enough is None:
            _, err = process.communicate(b"\n".join(names), timeout=60)
            assert process.returncode == 0, err
            continued += b"continuing behind" in err
            break
        process.stdin.write(b"\n".join(names[:enough]) + b"\n")
        process.stdin.flush()
        wait_for(lambda enough=enough: output.is_file() and output.read_bytes().count(b"\n") > enough // 3 * 3)
        process.stdin.write(b"\n".join(names[enough : enough + 6]) + b"\n")
        process.stdin.flush()
        time.sleep(random_.random() * 0.1)
        process.kill()
        assert process.wait(timeout=60) == -signal.SIGKILL
        continued += b"continuing behind" in process.stderr.read()
    assert continued == 3
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if "csv" in path.name) == ["killed.csv", "whole.csv"]


@pytest.mark.parametrize("command", ["predict", "bench"])
def test_several_gpus_are_named_once_and_right(call, workdir, mixed, command):
    arguments = [command, *([mixed] if command == "predict" else []), *workdir]
    assert call(*arguments, "--gpus", "0,1", "--device", "cpu")[0] == 2
    code, _, err = call(*arguments, "--gpus", "first")
    assert code == 2
    assert "expected CUDA's numbers of GPUs" in err


def test_gpus_that_are_not_there_are_exit_3(call, workdir, mixed, no_gpu):
    code, out, err = call("predict", mixed, *workdir, "--gpus", "0,1")
    assert (code, out) == (3, "")
    assert err.count("\n") <= 2


@pytest.mark.parametrize("name", ["broken.zip", "none.png", "@none.txt"])
def test_nothing_judged_is_no_success(call, workdir, tmp_path, name):
    (tmp_path / "broken.zip").write_bytes(b"nothing")
    code, out, err = call("predict", name, *workdir)
    assert code in (1, 2)
    assert "Error: " in err
    assert "fake" not in out


def test_what_was_left_out_is_said(call, workdir, mixed):
    (mixed / "notes.txt").touch()
    (mixed / ".hidden.png").touch()
    (mixed / "more").mkdir()
    (mixed / "linked").symlink_to(mixed / "more")
    (mixed / "self.jpg").symlink_to("self.jpg")
    code, out, err = call("predict", "mixed", *workdir)
    assert code == 0
    assert "left out: 1 .txt, 1 hidden file, 1 linked folder" in err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 12
    assert rows[-1]["error"] == "cannot be read: Too many levels of symbolic links"


def test_the_decoder_is_chosen_said_and_part_of_what_is_continued(call, workdir, mixed):
    pytest.importorskip("simplejpeg")
    code, first, err = call("predict", "mixed", *workdir)
    assert "pictures by simplejpeg" in err
    code, second, err = call("predict", "mixed", "--decoder", "pillow", *workdir)
    assert (code, second) == (0, first)
    assert "pictures by pillow" in err
    code, _, err = call("predict", "mixed", "--decoder", "nvimagecodec", "--device", "cuda", *workdir)
    assert code == 3
    assert call("predict", "mixed", "--decoder", "libjpeg", *workdir)[0] == 2


def test_what_this_machine_decodes_otherwise_is_a_warning_until_a_picture_asks_for_it(
    call, workdir, mixed, monkeypatch
):
    """Pillow is bent to give a format a level too much, as another build of it might."""
    from lfm_deploy.pictures import opening, self_test

    honest = opening._to_rgb
    for form, expected in (("WEBP", 0), ("PNG", 3)):
        self_test.find_differences.cache_clear()
        monkeypatch.setattr(
            opening, "_to_rgb", lambda p, form=form: honest(p).point(lambda v: v + 1) if p.format == form else honest(p)
        )
        code, out, err = call("predict", "mixed", *workdir)
        assert code == expected
        assert f"Warning: {form} is decoded to other pixels here" in err
        assert len(out.splitlines()) == (12 if code == 0 else 1)
    assert "Error: PNG is decoded to other pixels here than the contract's" in err
    self_test.find_differences.cache_clear()


def write_envelope(workdir, sha256, found_after_jpeg):
    """An envelope as ``verify --envelope`` writes it, of a detector that finds so many fakes after JPEG."""
    conditions = [
        {"name": name, "acc_fake": {"value": found}, "fpr": {"value": 0}}
        for name, found in (("as is", 90), ("jpeg 98", found_after_jpeg), ("jpeg 95", found_after_jpeg))
    ]
    values = {"format": FORMAT, "checkpoint_sha256": sha256, "envelope": {"conditions": conditions}}
    workdir.envelope.write_text(json.dumps(values))


@pytest.fixture
def own_workdir(small_workdir, tmp_path):
    shutil.copytree(small_workdir.path, tmp_path / "deploy")
    return Workdir(tmp_path / "deploy")


@pytest.fixture
def stored(pictures, tmp_path):
    """Two PNG files, and one of them as JPEG."""
    folder = tmp_path / "stored"
    folder.mkdir()
    for path in find_images(pictures)[:2]:
        shutil.copy(path, folder)
    with Image.open(path) as picture:
        picture.save(folder / "x.jpg", quality=88, subsampling="4:2:0")
    return folder


def test_notes_are_in_every_form_and_the_summary_counts_what_is_outside(call, own_workdir, stored):
    write_envelope(own_workdir, sha256_of_file(own_workdir.checkpoint), found_after_jpeg=2)
    _, out, err = call("predict", stored)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["notes"] for row in rows] == ["", "", "jpeg-q88; jpeg-420; outside: jpeg (fails at q98)"]
    assert "1 of 3 pictures is outside of what this detector was proved on" in err
    _, out, _ = call("predict", stored, "--json")
    assert json.loads(out.splitlines()[2])["notes"] == ["jpeg-q88", "jpeg-420", "outside: jpeg (fails at q98)"]
    _, out, _ = call("predict", stored, "--format", "table")
    assert "[jpeg-q88; jpeg-420; outside: jpeg (fails at q98)]" in out


def test_a_proved_jpeg_is_not_outside(call, own_workdir, stored):
    write_envelope(own_workdir, sha256_of_file(own_workdir.checkpoint), found_after_jpeg=80)
    _, out, err = call("predict", stored)
    assert "outside: jpeg below q95" in out
    assert "1 of 3 pictures" in err


def test_an_envelope_of_another_checkpoint_says_nothing(call, own_workdir, stored):
    write_envelope(own_workdir, "0" * 64, found_after_jpeg=2)
    _, out, err = call("predict", stored)
    assert "outside" not in out
    assert "of another checkpoint, so that notes state facts alone" in err
    own_workdir.envelope.write_text("{")
    code, _, err = call("predict", stored)
    assert code == 2
    assert len(err.splitlines()) == 1 + 1  # what was taken, and what is wrong


def test_provenance_has_columns_of_its_own_and_moves_no_logit(call, workdir, mixed, tmp_path):
    pytest.importorskip("c2pa", reason="c2pa-python is not installed")
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "Steps: 20")
    with Image.open(mixed / "00.png") as picture:
        picture.save(mixed / "00b.png", pnginfo=texts)
    _, out, _ = call("predict", "mixed", "--provenance", *workdir)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["generator"] for row in rows[:3]] == ["", "Stable Diffusion web UI", ""]
    assert rows[0]["logit"] == rows[1]["logit"]
    assert {"c2pa", "c2pa_signature", "source_type"} < rows[0].keys()
    _, out, _ = call("predict", "mixed", "--provenance", "--json", *workdir)
    assert json.loads(out.splitlines()[1])["generator"] == "Stable Diffusion web UI"
