"""Envelopes of a detector in NumPy, against logits that are worked out here one picture at a time."""

import multiprocessing
import os
import signal
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.loading import load_engine
from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import Contract
from lfm_deploy.deployment.lineup import find_candidates
from lfm_deploy.errors import ArtifactError, ConfigError, ContractError, UnavailableError
from lfm_deploy.scoring.score_cache import ScoreCache
from lfm_deploy.scoring.scorers import Scorer, published_reading
from lfm_deploy.scoring.suite_scores import make_scorer, make_tasks
from lfm_deploy.suites import LabelledImage, Suite, TestSet, load_suites
from lfm_deploy.verification.conditions import AS_IS, Condition, crop_to, encode_jpeg, scale_by
from lfm_deploy.verification.envelope import choose_envelope_engine, measure_envelope
from lfm_deploy.workdir import Workdir

CONDITIONS = (AS_IS, encode_jpeg(75), scale_by(0.5), crop_to(64))
IDENTITY = {"file": "roughness"}
JUDGED = 30 + 30 + 30 + 28  # two pictures are too small for the crop


class Roughness:
    """Calls pictures fake whose neighbours differ much; counts what it judges, and may stop like Ctrl-C."""

    contract, config = Contract(size=64), ModelConfig()

    def __init__(self, most=10**9):
        self.pictures, self._most = 0, most

    def logits(self, images):
        assert images.shape[1:] == (64, 64, 3)
        assert images.dtype == np.uint8
        if self.pictures + len(images) > self._most:
            raise KeyboardInterrupt
        self.pictures += len(images)
        return (np.abs(np.diff(images.astype(np.float32), axis=2)).mean(axis=(1, 2, 3)) - 4.2).astype(np.float32)

    def close(self):
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two sets of both classes and one without fakes: noise on a slope, more of it in most fakes."""
    home, rng = tmp_path_factory.mktemp("envelope") / "mine", np.random.default_rng(0)
    slope = np.add.outer(np.arange(80), np.arange(80))[..., None]
    for index in range(30):
        label = index // 3 % 2 * (index % 3 != 2)
        place = home / ("first", "second", "tiles")[index % 3] / ("0_real", "1_fake")[label]
        place.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, rng.integers(12, 40) + 14 * label, (80, 80, 3))
        pixels = (slope + noise).astype(np.uint8)
        Image.fromarray(pixels[: 60 if index in (0, 3) else 80]).save(place / f"{index:02}.png")
    return home


@pytest.fixture(scope="module")
def suite(folder):
    (found,) = load_suites(folder, size=64)
    return found


@pytest.fixture
def cache(tmp_path):
    with ScoreCache(tmp_path / "scores.sqlite", print) as opened:
        yield opened


def measure(engine, *suites, identity=None, **options):
    scorer = Scorer(name="roughness", identity=identity, load=lambda: engine, required=True)
    planned = [make_tasks(suite, published_reading(suite.size, batch=4)) for suite in suites]
    return measure_envelope(scorer, planned, **({"conditions": CONDITIONS, "batch": 4} | options))


def expected_logit(path, condition):
    """One picture, alone, through a file on the disk."""
    changed = condition.apply(Image.open(path).convert("RGB"))
    pixels = np.asarray(changed.resize((64, 64), Image.Resampling.BILINEAR))
    return float(Roughness().logits(pixels[None])[0])


def test_every_figure_against_logits_of_single_pictures(suite):
    from sklearn.metrics import average_precision_score

    found = measure(Roughness(), suite).as_dict()
    assert (found["engine"], found["suite"]) == ("roughness", "mine")
    for values, condition in zip(found["conditions"][:3], CONDITIONS, strict=False):
        sets, reals = {}, []
        for part in suite.sets:
            labels = np.array([image.label for image in part.images])
            logits = np.array([expected_logit(image.path, condition) for image in part.images])
            sets[part.name] = labels, logits
            reals += (logits[labels == 0] > 0).tolist()
        for part in values["sets"]:
            labels, logits = sets[part["set"]]
            assert (part["real"], part["fake"]) == ((labels == 0).sum(), (labels == 1).sum())
            assert part["acc"]["value"] == pytest.approx(100 * ((logits > 0) == labels).mean())
            assert part["fpr"]["value"] == pytest.approx(100 * (logits[labels == 0] > 0).mean())
            if part["set"] == "tiles":
                assert part["ap"] is part["acc_fake"] is None
                continue
            assert part["acc_fake"]["value"] == pytest.approx(100 * (logits[labels == 1] > 0).mean())
            assert part["ap"]["value"] == pytest.approx(100 * average_precision_score(labels, logits))
        both = [part for part in values["sets"] if part["set"] != "tiles"]
        for name in ("acc", "ap", "acc_fake"):
            assert values[name]["value"] == pytest.approx(np.mean([part[name]["value"] for part in both]))
        assert values["acc_real"]["value"] == pytest.approx(100 - np.mean([part["fpr"]["value"] for part in both]))
        # The set without fakes counts here.
        assert values["fpr"]["value"] == pytest.approx(100 * np.mean(reals))
        assert (values["pictures"], values["skipped"]) == (30, 0)
    # The detector errs on both classes, and not as often after each condition.
    as_is, jpeg, _, _ = found["conditions"]
    assert 0 < as_is["fpr"]["value"] < 100
    assert 0 < jpeg["acc_fake"]["value"] < as_is["acc_fake"]["value"] < 100


def test_what_a_condition_cannot_be_done_to_is_counted_with_its_reason(suite):
    crop = measure(Roughness(), suite).as_dict()["conditions"][3]
    assert (crop["name"], crop["pictures"], crop["skipped"]) == ("crop 64", 28, 2)
    assert crop["reasons"] == [{"reason": "smaller than 64x64 pixels", "pictures": 2}]


def test_files_that_cannot_be_read_are_counted_and_stop_nothing(suite, cache, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    os.mkfifo(tmp_path / "pipe.png")
    broken = TestSet("broken", tuple(LabelledImage(tmp_path / name, 0) for name in ("text.png", "pipe.png", "no.png")))
    found = measure(Roughness(), Suite("mine", 64, (*suite.sets, broken)), cache=cache, identity=IDENTITY).as_dict()
    for values in found["conditions"][:3]:
        assert {(row["reason"], row["pictures"]) for row in values["reasons"]} == {
            ("cannot be read: not a picture of a known format", 1),
            ("cannot be read: not a regular file", 1),
            ("no such file", 1),
        }
        last = values["sets"][-1]
        assert last == {"set": "broken", "real": 0, "fake": 0, "acc": None, "ap": None, "acc_fake": None, "fpr": None}


def test_a_condition_that_no_picture_survives_has_no_figures(suite):
    (values,) = measure(Roughness(), suite, conditions=[crop_to(500)]).as_dict()["conditions"]
    assert (values["pictures"], values["skipped"]) == (0, 30)
    assert [values[name] for name in ("acc", "acc_real", "acc_fake", "ap", "fpr")] == [None] * 5


def test_a_logit_that_is_no_number_is_not_a_decision(suite):
    class Broken(Roughness):
        def logits(self, images):
            logits = super().logits(images)
            logits[0] = np.nan
            return logits

    (values,) = measure(Broken(), suite, conditions=[AS_IS]).as_dict()["conditions"]
    assert values["reasons"] == [{"reason": "its logit is no finite number", "pictures": 9}]  # one a batch
    assert values["pictures"] == 21


def test_a_second_run_judges_nothing_and_says_the_same(suite, cache):
    first, second = Roughness(), Roughness()
    found = measure(first, suite, cache=cache, identity=IDENTITY)
    assert first.pictures == JUDGED
    again = measure(second, suite, cache=cache, identity=IDENTITY)
    assert second.pictures == 0
    assert again.conditions == found.conditions
    assert (found.cached, again.cached) == (0, JUDGED)


def test_another_engine_size_or_condition_is_judged_anew(suite, cache):
    measure(Roughness(), suite, cache=cache, identity=IDENTITY, conditions=[encode_jpeg(75)])
    for part, identity, condition in (
        (suite, {"file": "another"}, encode_jpeg(75)),
        (suite, IDENTITY, encode_jpeg(74)),
        (suite, IDENTITY, Condition("jpeg 75", "but not the same", lambda picture: picture)),
        (suite, IDENTITY, AS_IS),
        (suite, None, encode_jpeg(75)),
        (suite, None, encode_jpeg(75)),  # what nobody can name is not kept
    ):
        counted = Roughness()
        measure(counted, part, cache=cache, identity=identity, conditions=[condition])
        assert counted.pictures == 30


def test_an_interrupted_run_goes_on(suite, cache):
    cut = Roughness(most=50)
    with pytest.raises(KeyboardInterrupt):
        measure(cut, suite, cache=cache, identity=IDENTITY)
    rest = Roughness()
    found = measure(rest, suite, cache=cache, identity=IDENTITY)
    # Everything that was judged was kept, none of it is judged again.
    assert cut.pictures + rest.pictures == JUDGED
    assert found.conditions == measure(Roughness(), suite).conditions


def test_sets_of_several_suites_say_their_suite(suite):
    other = Suite("other", 64, suite.sets[:1])
    found = measure(Roughness(), suite, other, conditions=[AS_IS]).as_dict()
    assert found["suite"] == "mine, other"
    assert [part["set"] for part in found["conditions"][0]["sets"]] == [
        "mine/first", "mine/second", "mine/tiles", "other/first",
    ]  # fmt: skip


def test_progress_counts_every_picture_under_every_condition(suite, cache):
    seen = []
    for done_before in (0, 120):
        seen.clear()
        measure(Roughness(), suite, cache=cache, identity=IDENTITY, on_progress=lambda *values: seen.append(values))
        assert seen[-1] == ("operating envelope", 120, 120)
        counts = [done for what, done, _ in seen if what == "operating envelope"]
        assert counts == sorted(counts)
        assert counts[1] == (4 if done_before == 0 else 20)  # a batch, or a test set that is known


def test_the_standard_conditions_crop_to_the_size_of_the_suite(suite):
    few = Suite("mine", 64, (TestSet("few", suite.sets[2].images[:2]),))
    names = [values["name"] for values in measure(Roughness(), few, conditions=None).as_dict()["conditions"]]
    assert names[0] == "as is"
    assert "crop 64" in names


def choose(workdir, suites, name=None, device="cpu"):
    return choose_envelope_engine(workdir, find_candidates(workdir, device), suites, name)


def test_the_engine_is_the_graph_unless_one_is_named(small_workdir, pictures):
    suites = load_suites(pictures)
    candidate = choose(small_workdir, suites)
    assert (candidate.name, candidate.path.name) == ("onnxruntime fp32", "lfm.onnx")
    assert choose(small_workdir, suites, "pytorch fp32").path.name == "lfm.pth"


def test_engines_that_are_not_there_or_do_not_fit_are_errors(small_workdir, small_checkpoint, pictures, tmp_path):
    suites = load_suites(pictures)
    with pytest.raises(ConfigError, match=r"no engine 'tensorrt fp16'.*there are pytorch fp32, onnxruntime fp32"):
        choose(small_workdir, suites, "tensorrt fp16")
    with pytest.raises(ContractError, match="size is 256, asked for 64"):
        choose(small_workdir, load_suites(pictures, size=64))
    (tmp_path / "lfm.pth").write_bytes(small_checkpoint.read_bytes())
    with pytest.raises(ArtifactError, match=r"lfm\.onnx: no such graph; make it with 'lfm-deploy export"):
        choose(Workdir(tmp_path), suites)


def test_an_engine_that_cannot_run_here_is_an_error(small_workdir, pictures, no_gpu):
    suites = load_suites(pictures)
    scorer = make_scorer(choose(small_workdir, suites, device="cuda"), required=True)
    with pytest.raises(UnavailableError):
        measure_envelope(scorer, [make_tasks(suites[0], published_reading(256, batch=4))])


def _measure_for_ever(folder, path):
    conditions = [encode_jpeg(quality) for quality in range(1, 100)] * 1000
    with ScoreCache(path, print) as cache:
        measure(Roughness(), *load_suites(folder, size=64), cache=cache, identity=IDENTITY, conditions=conditions)


def test_after_kill_9_everything_judged_is_there(suite, folder, tmp_path):
    path = tmp_path / "scores.sqlite"
    process = multiprocessing.get_context("spawn").Process(target=_measure_for_ever, args=(folder, path))
    process.start()
    with ScoreCache(path, pytest.fail) as cache:
        while _count(path) < 10:
            assert process.is_alive()
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kept, counted = _count(path), Roughness()
        measure(counted, suite, cache=cache, identity=IDENTITY, conditions=[encode_jpeg(1)])
    assert counted.pictures == max(30 - kept, 0)


def _count(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM scores").fetchone()[0])
    finally:
        connection.close()


def test_one_jpeg_hides_the_faces_of_stylegan2(official_checkpoint, shared):
    """The published checkpoint finds all of them as they are, and none after a JPEG of quality 98."""
    home = shared / "wild" / "stylegan2_ffhq256" / "1_fake"
    faces = TestSet("faces", tuple(LabelledImage(path, 1) for path in sorted(home.iterdir())[::4]))
    opened = load_engine(official_checkpoint)
    found = measure(opened, Suite("wild", 256, (faces,)), conditions=[AS_IS, encode_jpeg(98)]).as_dict()
    opened.close()
    shares = [values["sets"][0]["acc_fake"]["value"] for values in found["conditions"]]
    assert shares == [100, 0]
