"""Inputs under the names of outputs, on the command line: exit code 2, and every byte stays."""

import os
import shutil
import tarfile
from pathlib import Path

import pytest
import torch

from lfm_deploy.cli import run
from lfm_deploy.pictures.images import find_images


@pytest.fixture
def here(small_workdir, pictures, tmp_path, monkeypatch):
    """A folder with everything that predict reads, and other ways to it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_workdir.path, "deploy")
    Path("photos").mkdir()
    for index, path in enumerate(find_images(pictures)[:3]):
        shutil.copy(path, f"photos/{index}.png")
    with tarfile.open("shard.tar", "w") as shard:
        shard.add("photos/0.png")
    Path("list.txt").write_text("photos/0.png\nphotos/1.png\n")
    shutil.copy("photos/2.png", "unnamed.csv")
    Path("link.csv").symlink_to("list.txt")
    Path("linked").symlink_to("photos")
    os.link("list.txt", "hard.csv")
    os.link("photos/0.png", "hard_picture.csv")
    return tmp_path


def everything(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"}


PREDICT = {
    "the list": ["@list.txt", "--output", "list.txt"],
    "the list of the option": ["--from-list", "list.txt", "--output", "photos/../list.txt"],
    "a link to the list": ["@list.txt", "--output", "link.csv"],
    "a hard link to the list": ["@list.txt", "--output", "hard.csv"],
    "a picture": ["photos/0.png", "--output", "photos/0.png"],
    "a picture in the folder": ["photos", "--output", "linked/1.png"],
    "a new picture in the folder": ["photos", "--output", "photos/new.png"],
    "a hard link to a picture in the folder": ["photos", "--output", "hard_picture.csv"],
    "a picture of the list": ["@list.txt", "--output", "hard_picture.csv"],
    "a picture of a pattern": ["photos/*.png", "--output", "hard_picture.csv"],
    "a picture without its suffix": ["unnamed.csv", "--output", "unnamed.csv"],
    "the shard": ["shard.tar", "--output", "shard.tar"],
    "the graph": ["photos", "--output", "deploy/lfm.onnx"],
    "the engine": ["photos", "--engine", "deploy/lfm.pth", "--output", "deploy/lfm.pth"],
    "the progress of the list": ["--from-list", "o.csv.progress.json", "--output", "o.csv"],
    "a report": ["photos", "--output", "deploy/notes.txt"],
    "drawings in the folder": ["photos", "--evidence", "photos"],
    "drawings below the folder": ["photos", "--evidence", "linked/drawn"],
    "drawings beside the picture": ["photos/0.png", "--evidence", "photos"],
    "drawings where a pattern looks": ["photos/**/*.png", "--evidence", "photos/drawn"],
}


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["", "overwrite"])
@pytest.mark.parametrize("arguments", PREDICT.values(), ids=PREDICT)
def test_predict_writes_over_no_input(here, capfd, arguments, overwrite):
    shutil.copy("list.txt", "o.csv.progress.json")
    shutil.copy("list.txt", "deploy/notes.txt")
    before = everything(here)
    overwrite = overwrite if "--output" in arguments else []
    assert run(["predict", "--workdir", "deploy", *arguments, *overwrite]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("Error: ")
    assert err.count("Error") == 1
    assert everything(here) == before


def test_predict_overwrites_what_it_wrote(here):
    for name in ("o.csv", "o.jsonl"):
        for _ in range(2):
            assert run(["predict", "--workdir", "deploy", "photos", "--output", name, "--overwrite"]) == 0
    assert (
        run(["predict", "--workdir", "deploy", "photos", "--output", "o.csv", "--format", "jsonl", "--overwrite"]) == 0
    )
    assert (here / "o.csv").read_bytes() == (here / "o.jsonl").read_bytes()


def test_drawings_beside_the_list_or_the_folder_are_fine(here):
    assert run(["predict", "--workdir", "deploy", "@list.txt", "--evidence", "."]) == 0
    assert run(["predict", "--workdir", "deploy", "photos/*.png", "--evidence", "photos/drawn"]) == 0
    assert len(list(here.glob("*.png"))) == 2
    assert len(list(here.glob("photos/drawn/*.png"))) == 3


def test_export_does_not_replace_a_checkpoint_by_a_part_of_it(here, capfd, official_checkpoint):
    state = torch.load(official_checkpoint, map_location="cpu", weights_only=True)
    torch.save({"model": state, "epoch": 3}, "deploy/lfm.pth")
    Path("deploy/linked.pth").symlink_to("lfm.pth")
    before = everything(here)
    for name in ("lfm.pth", "linked.pth"):
        assert run(["export", f"deploy/{name}", "--workdir", "deploy"]) == 2
        assert "lfm.pth would be written, and is one of the inputs" in capfd.readouterr().err
    assert everything(here) == before


def test_export_does_not_replace_a_checkpoint_by_its_graph(here, capfd):
    shutil.copy("deploy/lfm.pth", "deploy/lfm.onnx")
    assert run(["export", "deploy/lfm.onnx", "--workdir", "deploy"]) == 2
    assert "lfm.onnx would be written, and is one of the inputs" in capfd.readouterr().err


def test_verify_does_not_remove_the_list_that_it_reads(here, capfd):
    (here / "deploy" / "scores.csv").write_text("path,label\n../photos/0.png,real\n../photos/1.png,fake\n")
    before = everything(here)
    assert run(["verify", "--workdir", "deploy", "--suite", "deploy/scores.csv", "--no-speed"]) == 2
    assert "scores.csv would be written, and is one of the inputs" in capfd.readouterr().err
    assert everything(here) == before


@pytest.mark.parametrize("output", ["photos", "linked/drawn", "photos/../photos/x"])
def test_explore_does_not_draw_among_the_pictures(here, capfd, output):
    before = everything(here)
    assert run(["explore", "photos", "--workdir", "deploy", "--maps", "0", "--output", output]) == 2
    assert "whose pictures are looked at" in capfd.readouterr().err
    assert everything(here) == before


@pytest.mark.parametrize("split", ["train", "val/a/0_real"])
def test_train_does_not_write_among_the_pictures(here, capfd, split):
    Path("data", split).mkdir(parents=True)
    assert run(["train", "--data", "data", "--output", f"data/{split}/run", "--epochs", "1"]) == 2
    assert "lies among the pictures" in capfd.readouterr().err


def test_bench_does_not_draw_among_the_pictures(here, capfd):
    assert run(["bench", "--workdir", "deploy", "--pictures", "deploy/../deploy"]) == 2
    assert "is one of the inputs" in capfd.readouterr().err
