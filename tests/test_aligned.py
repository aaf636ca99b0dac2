import csv
import shutil

import pytest
from PIL import Image

from lfm_deploy.cli import run
from lfm_deploy.pictures.images import find_images
from lfm_deploy.scoring.scorers import published_reading
from lfm_deploy.scoring.suite_scores import make_tasks
from lfm_deploy.suites import load_suites
from lfm_deploy.verification.aligned import measure_aligned
from lfm_deploy.verification.verification import verify
from lfm_deploy.verification.verify_options import VerifyOptions
from lfm_deploy.workdir import Workdir


@pytest.fixture
def own_workdir(small_workdir, tmp_path):
    shutil.copytree(small_workdir.path, tmp_path / "deploy")
    return Workdir(tmp_path / "deploy")


@pytest.fixture
def stored(pictures, tmp_path):
    """The suite with its real pictures saved as JPEG of quality 40."""
    shutil.copytree(pictures, tmp_path / "stored")
    for name in ("first", "second"):
        for path in find_images(tmp_path / "stored" / name / "0_real"):
            with Image.open(path) as picture:
                picture.save(path.with_suffix(".jpg"), quality=40)
            path.unlink()
    return tmp_path / "stored"


def test_fakes_are_judged_as_real_pictures_are_stored(own_workdir, stored):
    options = VerifyOptions(aligned=True, speed_seconds=0)
    found = verify(own_workdir, load_suites(stored), options)
    as_stored, aligned = found.aligned.conditions
    reference = found.engines[0].suites[0]
    assert as_stored.figures.ap.value == reference.mean.ap.value
    assert as_stored.figures.fpr == aligned.figures.fpr  # real pictures stay as they are
    assert (as_stored.pictures, aligned.pictures) == (24, 24)

    # The same by hand: each fake saved with quality 40 has the logit that it was judged by.
    by_hand = stored.parent / "by hand"
    shutil.copytree(stored, by_hand)
    for name in ("first", "second"):
        for path in find_images(by_hand / name / "1_fake"):
            with Image.open(path) as picture:
                picture.save(path.with_suffix(".jpg"), quality=40)
            path.unlink()
    again = verify(own_workdir, load_suites(by_hand), VerifyOptions(speed_seconds=0)).engines[0].suites[0]
    assert aligned.figures.ap.value == pytest.approx(again.mean.ap.value, abs=1e-12)
    assert aligned.figures.acc_fake.value == pytest.approx(again.mean.acc_fake.value, abs=1e-12)


def test_a_second_run_computes_nothing(own_workdir, stored):
    options = VerifyOptions(aligned=True, speed_seconds=0)
    first, second = (verify(own_workdir, load_suites(stored), options).aligned for _ in range(2))
    assert second.cached == 24 + 12  # all as they are, and the fakes again
    assert [one.figures.acc for one in first.conditions] == [one.figures.acc for one in second.conditions]


class _Recorder:
    """A scorer that writes down which pictures it is given."""

    name, not_run, cached, identity, required = "recorder", None, 0, None, True
    config = None

    def __init__(self):
        self.seen = []
        self.source = self

    def key(self, reading):
        return None

    def logits(self, images):
        self.seen.append(images.copy())
        return images.reshape(len(images), -1).mean(axis=1, dtype="float64").astype("float32") - 128


def test_a_set_of_real_pictures_alone_stays_as_it_is(pictures, tmp_path):
    shutil.copytree(pictures / "first", tmp_path / "s" / "first")
    shutil.copytree(pictures / "second" / "0_real", tmp_path / "s" / "alone" / "0_real")
    (suite,) = load_suites(tmp_path / "s")
    planned = make_tasks(suite, published_reading(256, 8))
    scorer = _Recorder()
    found = measure_aligned(scorer, [planned])
    assert sum(len(images) for images in scorer.seen) == 18 + 6
    assert [part.name for part in found.conditions[1].figures.sets] == ["alone", "first"]


def test_the_command_warns_and_shows_both(own_workdir, stored, capsys):
    words = ["verify", "--suite", str(stored), "--aligned", "--no-speed", "--allow-undecided"]
    run([*words, "--workdir", str(own_workdir.path)])
    captured = capsys.readouterr()
    assert "Warning: stored: all 12 JPEG files are real; the format alone tells real from fake" in captured.err
    assert "fakes stored as real pictures" in captured.out
    assert "real and fake are stored differently" in captured.out
    page = own_workdir.page.read_text()
    assert "Fakes stored as real pictures" in page
    assert "all 12 JPEG files are real" in own_workdir.summary.read_text()
    with own_workdir.scores.open(newline="") as file:
        notes = {row["path"].rpartition(".")[2]: row["notes"] for row in csv.DictReader(file)}
    assert notes == {"png": "", "jpg": "jpeg-q40; jpeg-420"}
