"""``--max-pixels``: told by the header, before anything is decoded, in every command that reads pictures."""

import csv
import io
import json
import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from lfm_deploy.cli import run
from lfm_deploy.errors import ConfigError, ImageError
from lfm_deploy.pictures.decoding import read_rgb
from lfm_deploy.pictures.images import read_image
from lfm_deploy.pictures.members import most_bytes
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.pictures.pixel_limit import MOST_PIXELS, limit_pixels, most_pixels

REASON = "256x256 is more than 65535 pixels; --max-pixels raises the limit"


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Twelve pictures of 128x128 and three of 256x256, by classes; the last one is of 256x256."""
    monkeypatch.chdir(tmp_path)
    for index, tile in enumerate([*sample_tiles(128, 128, 12), *sample_tiles(256, 256, 3)]):
        target = Path("photos", ("0_real", "1_fake")[index % 2], f"{index:02}.png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tile).save(target)
    return "photos"


def test_the_limit_holds_in_the_block_alone():
    assert most_pixels() == MOST_PIXELS == 178_956_970
    with limit_pixels(5):
        assert most_pixels() == 5
        with limit_pixels():
            assert most_pixels() == MOST_PIXELS
        assert Image.MAX_IMAGE_PIXELS is None
    assert most_pixels() == MOST_PIXELS
    assert Image.MAX_IMAGE_PIXELS == MOST_PIXELS // 2
    with pytest.raises(ConfigError, match="max_pixels is 0"), limit_pixels(0):
        pass


def test_as_many_pixels_as_the_limit_are_read(photos):
    path = "photos/1_fake/13.png"
    with limit_pixels(256 * 256):
        assert read_image(path).shape == (256, 256, 3)
    with limit_pixels(256 * 256 - 1), pytest.raises(ImageError, match=REASON):
        read_image(path)


def test_nothing_is_decoded_of_what_is_too_large(photos):
    content = Path("photos/1_fake/13.png").read_bytes()[:100]  # its header alone
    with limit_pixels(65535), pytest.raises(ImageError, match=REASON):
        read_rgb(content)
    with pytest.raises(ImageError, match="cannot be read"):
        read_rgb(content)


def test_more_than_pillow_takes_by_itself():
    stream = io.BytesIO()
    Image.new("1", (18_000, 10_000), 1).save(stream, "PNG", compress_level=1)
    with pytest.raises(ImageError, match="more than 178956970 pixels; --max-pixels raises the limit"):
        read_rgb(stream.getvalue())
    with limit_pixels(180_000_000):
        assert read_rgb(stream.getvalue()).size == (18_000, 10_000)


def test_members_of_shards_may_be_as_large_as_their_pixels():
    before = most_bytes()
    assert before > 3 * MOST_PIXELS
    with limit_pixels(10**9):
        assert most_bytes() > 3 * 10**9
    assert most_bytes() == before


def judge(capfd, *arguments):
    code = run([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_predict_gives_a_row_with_the_reason(photos, small_workdir, capfd):
    with zipfile.ZipFile("shard.zip", "w") as shard:
        shard.write("photos/1_fake/13.png", "1.png")
    arguments = ["predict", photos, "shard.zip", "--workdir", small_workdir.path, "--max-pixels"]
    code, out, err = judge(capfd, *arguments, 65535)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert [row["error"] for row in rows].count(REASON) == 4
    assert [row["error"] for row in rows].count("") == 12
    assert "4 not judged" in err
    code, out, _ = judge(capfd, *arguments, 65536)
    assert [row["error"] for row in csv.DictReader(io.StringIO(out))] == [""] * 16
    assert judge(capfd, *arguments, 100)[0] == 1  # nothing was judged
    assert judge(capfd, *arguments, 0)[0] == 2
    assert most_pixels() == MOST_PIXELS


def test_a_results_file_is_continued_under_its_own_limit(photos, small_workdir, capfd):
    broken = Path(photos, "1_fake", "9.png")
    broken.write_bytes(b"broken")
    arguments = ["predict", photos, "--workdir", small_workdir.path, "--output", "o.csv", "--strict"]
    assert judge(capfd, *arguments)[0] == 2
    code, _, err = judge(capfd, *arguments, "--max-pixels", 65535)
    assert code == 2
    assert "max_pixels was 178956970, is 65535" in err


def test_verify_remembers_logits_by_the_limit(photos, small_workdir, tmp_path, capfd):
    shutil.copytree(small_workdir.path, tmp_path / "deploy")
    arguments = ["verify", "--suite", photos, "--workdir", "deploy", "--no-speed", "--allow-undecided", "--json"]
    for limit, skipped in (([], 0), (["--max-pixels", "65535"], 3), (["--max-pixels", "65536"], 0)):
        _, out, _ = judge(capfd, *arguments, *limit)
        assert out.count(REASON) >= skipped
        assert (REASON in out) == bool(skipped)


def test_suites_says_which_are_too_large(photos, capfd):
    code, out, _ = judge(capfd, "suites", photos, "--json", "--max-pixels", 65535)
    assert code == 1
    assert out.count(REASON) == 3
    assert judge(capfd, "suites", photos, "--json")[0] == 0


def test_calibrate_and_explore_pass_them_over(photos, small_workdir, tmp_path, capfd):
    shutil.copytree(small_workdir.path, tmp_path / "deploy")
    code, _, err = judge(capfd, "calibrate", photos, "--workdir", "deploy", "--max-pixels", 100)
    assert code == 2
    assert "0 pictures can be used" in err
    arguments = ["explore", photos, "--workdir", "deploy", "--maps", 0, "--json", "--max-pixels", 65535]
    code, out, _ = judge(capfd, *arguments)
    assert code == 0
    assert out.count(REASON) == 3
    assert "--max-pixels 65535" in json.loads(out)["command"]


def test_train_leaves_them_out(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        for label in ("0_real", "1_fake"):
            folder = Path("data", split, "a", label)
            folder.mkdir(parents=True)
            Image.new("RGB", (64, 64)).save(folder / "a.png")
    Path("small.toml").write_text('base = "paper"\nbatch = 2\nclasses = ["a"]\n')
    arguments = ["train", "--data", "data", "--recipe", "small.toml", "--workers", 0, "--max-pixels", 4095]
    code, _, err = judge(capfd, *arguments)
    assert code == 2
    assert "64x64 is more than 4095 pixels" in err


def test_the_limit_stands_in_the_help_of_each(capfd):
    for command in ("predict", "verify", "suites", "calibrate", "build", "explore", "train"):
        out = judge(capfd, command, "--help")[1]
        assert "--max-pixels" in out
        assert "178956970" in out
