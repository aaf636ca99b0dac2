import json
import os

import numpy as np
import pytest
from PIL import Image

from lfm_deploy.cli import run
from lfm_deploy.suites import describe_suites


@pytest.fixture
def call(capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LFM_DATA", raising=False)

    def call(*arguments):
        code = run(["suites", *(str(argument) for argument in arguments)])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def mine(tmp_path):
    for seed, name in enumerate(["0_real/a.png", "0_real/b.png", "1_fake/c.png"]):
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 48, 3), np.uint8)).save(path)
    return tmp_path / "mine"


def test_it_warns_where_the_classes_are_stored_differently(call, tmp_path):
    for seed in range(24):
        path = tmp_path / "mine" / ("0_real" if seed % 2 else "1_fake") / f"{seed}.{'jpg' if seed % 2 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 48, 3), np.uint8)).save(path)
    code, out, _ = call(tmp_path / "mine")
    assert code == 0  # a warning: nothing is missing or wrong
    assert "warning: mine: all 12 JPEG files are real; the format alone tells real from fake with an AUC of 1.00" in out
    _, out, _ = call(tmp_path / "mine", "--json")
    (confounder,) = json.loads(out)[0]["confounders"]
    assert (confounder["property"], confounder["auc"]) == ("format", 1.0)


def test_alone_it_says_source_size_and_tree_of_each(call):
    code, out, err = call()
    assert (code, err) == (0, "")
    for spec in describe_suites():
        assert f"{spec.name}: {len(spec.sets)} test sets, " in out
        assert spec.source in " ".join(out.split())
        assert f"└── {spec.sets[-1]}/[category/]{{0_real,1_fake}}/*.png" in out
    assert "GANGen-Detection: 9 test sets, native size" in out
    values = json.loads(call("--json")[1])
    assert [entry["suite"] for entry in values] == [spec.name for spec in describe_suites()]
    assert all("1_fake" in entry["tree"] for entry in values)


def test_a_suite_that_is_fine_is_exit_0(call, mine):
    code, out, _ = call("mine")
    assert code == 0
    assert "mine: 256x256 pixels, 3 pictures" in out
    values = json.loads(call("mine", "--json", "--size", "native")[1])[0]
    assert (values["fine"], values["size"]) == (True, "native")
    assert (values["sets"][0]["real"], values["sets"][0]["fake"]) == (2, 1)


def test_what_is_wrong_is_exit_1_and_has_its_line(call, mine):
    (mine / "1_fake" / "bad[red].png").write_bytes(b"no picture")
    Image.open(mine / "0_real" / "a.png").save(mine / "1_fake" / "copy.png", compress_level=0)
    code, out, _ = call("mine")
    assert code == 1
    assert "unreadable: mine/1_fake/bad[red].png: cannot be read: not a picture of a known format" in out
    assert "the same pixels are real and fake: mine/0_real/a.png and mine/1_fake/copy.png" in out
    values = json.loads(call("mine", "--json")[1])[0]
    assert values["in_both_classes"] == [{"real": "mine/0_real/a.png", "fake": "mine/1_fake/copy.png"}]
    assert values["sets"][0]["unreadable"][0]["path"] == "mine/1_fake/bad[red].png"


def test_missing_published_data_is_exit_1_with_source_and_tree(call, mine):
    code, out, _ = call("--data", mine, "diffusion")
    assert code == 1
    assert out.count("missing: all test sets") == 3
    assert "├── adm/" in out
    assert "data: DIRE's data" in out


def test_wrong_usage_is_exit_2(call, tmp_path):
    for arguments, complaint in (
        (["toasters"], "neither a folder nor a suite"),
        (["none.csv"], "cannot be read"),
        (["ForenSynths", "--size", "native"], "leave --size out"),
        ([tmp_path], "no 0_real/ and 1_fake/"),
    ):
        code, out, err = call(*arguments)
        assert (code, out) == (2, "")
        assert complaint in err


def test_what_was_left_out_is_said(call, mine):
    (mine / "0_real" / "notes.txt").touch()
    (mine / "1_fake" / ".DS_Store").touch()
    code, out, _ = call(mine)
    assert code == 0
    assert "left out: 1 .txt, 1 hidden file" in out
    assert json.loads(call(mine, "--json")[1])[0]["left_out"] == {".txt": 1, "hidden file": 1}


def test_a_folder_that_cannot_be_listed_is_an_error(call, mine, monkeypatch):
    """verify said PASSED on the pictures that were left."""
    (mine / "0_real" / "closed").mkdir()
    real = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr("os.scandir", scandir)
    code, _, err = call(mine)
    assert code == 2
    assert "closed: cannot be listed: Permission denied; make it readable, or move it away" in err


def test_a_name_that_is_no_utf8_is_printed_as_json_escaped(call, mine):
    name = os.fsdecode(b"bad\xff.png")
    (mine / "0_real" / name).write_bytes(b"no picture")
    code, out, _ = call("mine", "--json")
    assert code == 1
    assert json.loads(out)[0]["sets"][0]["unreadable"][0]["path"] == f"mine/0_real/{name}"
