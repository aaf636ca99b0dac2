import base64
import io
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lfm_deploy.report.thumbnails import LONG_SIDE, MOST_ERRORS, MOST_FLIPS, make_thumbnails
from lfm_deploy.workdir import Workdir


@pytest.fixture
def workdir(small_checkpoint, tmp_path):
    folder = Workdir(tmp_path / "deploy")
    folder.path.mkdir()
    shutil.copy(small_checkpoint, folder.checkpoint)
    return folder


@pytest.fixture
def files(tmp_path):
    """A wide picture, a small one, a damaged one, and one that is not there."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "wide.png")
    Image.fromarray(noise[:64, :64]).save(tmp_path / "small.png")
    (tmp_path / "damaged.png").write_bytes((tmp_path / "wide.png").read_bytes()[:1000])
    return {name: str(tmp_path / f"{name}.png") for name in ("wide", "small", "damaged", "gone")}


def report_of(*paths, size="native"):
    flips = [
        {"set": "x", "path": path, "label": 1, "reference": 1.0, "logit": -1.0, "margin": 1.0 + index}
        for index, path in enumerate(paths)
    ]
    engine = {"name": "a", "kind": "engine", "not_run": None, "sha256": "b"}
    return {
        "threshold": 0.0,
        "suites": [{"name": "s", "size": size}],
        "engines": [
            engine | {"name": "pytorch", "kind": "reference", "sha256": "a" * 64, "suites": []},
            engine | {"suites": [{"suite": "s", "against": {"flipped": flips}}]},
        ],
    }


def opened(uri):
    kind, _, content = uri.partition(";base64,")
    assert kind == "data:image/jpeg"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_a_picture_is_shown_small_with_its_evidence(workdir, files):
    found = make_thumbnails(report_of(files["wide"], files["small"]), [], workdir)
    wide, small = found[files["wide"]], found[files["small"]]
    assert opened(wide.picture).size == opened(wide.overlay).size == (LONG_SIDE, 51)
    assert opened(small.picture).size == (64, 64)  # nothing is enlarged
    assert wide.note == small.note == ""
    grey = np.asarray(opened(wide.picture).convert("RGB"), int)
    red = np.asarray(opened(wide.overlay).convert("RGB"), int)
    assert np.abs(grey - red).mean() > 5  # the overlay is grey with tints, the picture has colours


def test_it_is_shown_as_it_was_judged(workdir, files):
    found = make_thumbnails(report_of(files["wide"], size=256), [], workdir)
    assert opened(found[files["wide"]].picture).size == (LONG_SIDE, LONG_SIDE)


def test_what_cannot_be_shown_is_said_in_words(workdir, files):
    found = make_thumbnails(report_of(files["damaged"], files["gone"]), [], workdir)
    assert found[files["gone"]].note == "cannot be shown: no such file or directory"
    assert found[files["damaged"]].note.startswith("cannot be shown: ")
    assert str(files["damaged"]) not in found[files["damaged"]].note
    assert found[files["damaged"]].picture is found[files["damaged"]].overlay is None


def test_without_the_checkpoint_there_is_the_picture_and_the_reason(workdir, files):
    workdir.checkpoint.unlink()
    (found,) = make_thumbnails(report_of(files["small"]), [], workdir).values()
    assert found.picture
    assert found.overlay is None
    assert found.note.startswith("no evidence: ")
    assert "no such file" in found.note


def test_known_pictures_are_not_drawn_again_and_torch_is_not_imported(workdir, files):
    report = report_of(files["wide"], files["small"])
    first = make_thumbnails(report, [], workdir)
    workdir.checkpoint.unlink()  # without it nothing can be drawn
    assert make_thumbnails(report, [], workdir) == first
    again = "import sys; sys.path.insert(0, {!r}); import test_thumbnails as t; from pathlib import Path; "
    again += "t.make_thumbnails(t.report_of({!r}), [], t.Workdir(Path({!r}))); print('torch' in sys.modules)"
    tests, path = str(__file__).rpartition("/")[0], files["wide"]
    finished = subprocess.run(
        [sys.executable, "-c", again.format(tests, path, str(workdir.path))], capture_output=True, text=True, check=True
    )
    assert finished.stdout == "False\n"


def test_another_checkpoint_or_picture_is_drawn_anew(workdir, files):
    report = report_of(files["small"])
    before = make_thumbnails(report, [], workdir)[files["small"]]
    old = set(workdir.thumbnails.iterdir())
    report["engines"][0]["sha256"] = "c" * 64
    make_thumbnails(report, [], workdir)
    new = set(workdir.thumbnails.iterdir())
    assert len(old) == len(new) == 2
    assert not old & new  # those of the other checkpoint are gone
    Image.new("RGB", (64, 64), "white").save(files["small"])
    after = make_thumbnails(report, [], workdir)[files["small"]]
    assert after.picture != before.picture


@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda _: b"", lambda _: b"\x89PNG"])
def test_a_damaged_entry_is_made_anew(workdir, files, damage):
    report = report_of(files["wide"])
    before = make_thumbnails(report, [], workdir)
    for path in workdir.thumbnails.iterdir():
        path.write_bytes(damage(path.read_bytes()))
    assert make_thumbnails(report, [], workdir) == before


def test_flips_and_errors_are_limited(workdir, tmp_path):
    many = [str(tmp_path / f"{index}.png") for index in range(MOST_FLIPS + 5)]
    rows = [
        {"engine": "pytorch", "suite": "s", "set": "x", "path": f"{label} {index}", "label": label, "logit": logit}
        for label, logit in ((0, 5.0), (1, -5.0))
        for index in range(MOST_ERRORS + 3)
    ]
    found = make_thumbnails(report_of(*many), rows, workdir)
    assert len(found) == MOST_FLIPS + 2 * MOST_ERRORS
    assert many[-1] in found  # the widest margin
    assert many[0] not in found
