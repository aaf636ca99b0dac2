"""The cache in front of scorers, with a judge that needs no engine: the mean of the red pixels, and it counts."""

import numpy as np
import pytest
from PIL import Image

from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import UnavailableError
from lfm_deploy.pictures.fingerprints import fingerprint_files
from lfm_deploy.scoring.score_cache import ScoreCache
from lfm_deploy.scoring.scorers import Reading, Scorer, Task, plan_tasks, published_reading, run_tasks


class RedJudge:
    config = ModelConfig()

    def __init__(self):
        self.judged = 0

    def logits(self, images):
        self.judged += len(images)
        return images[..., 0].mean(axis=(1, 2)).astype(np.float32)

    def close(self):
        pass


@pytest.fixture
def cache(tmp_path):
    with ScoreCache(tmp_path / "scores.sqlite", print) as opened:
        yield opened


@pytest.fixture
def paths(tmp_path):
    """Five pictures whose red is 0, 10, ..., 40."""
    for index in range(5):
        Image.new("RGB", (64, 64), (10 * index, 0, 0)).save(tmp_path / f"{index}.png")
    return [tmp_path / f"{index}.png" for index in range(5)]


def score(paths, cache, *, identity="one", reading=None, load=None, what="scoring", **options):
    """One run of one scorer: logits, pictures that it judged, the scorer, the task."""
    judge = RedJudge()
    task = Task(
        what=what, paths=paths, prints=fingerprint_files(paths), reading=reading or published_reading(256, batch=2)
    )
    scorer = Scorer(
        name="red", identity=None if identity is None else {"file": identity}, load=load or (lambda: judge), **options
    )
    plan_tasks([task], [scorer], cache)
    run_tasks([task], [scorer], cache, lambda *_: None)
    return task.found.get("red"), judge.judged, scorer, task


def test_a_second_run_judges_nothing_and_finds_the_same(paths, cache):
    first, second = score(paths, cache), score(paths, cache)
    assert first[0] == second[0] == [0, 10, 20, 30, 40]
    assert [first[1], second[1]] == [5, 0]
    assert [first[2].cached, second[2].cached] == [0, 5]


def test_only_new_pictures_are_judged_under_any_name(paths, cache):
    score(paths[:3], cache)
    paths[1].rename(paths[1].with_name("renamed.png"))
    values, judged, scorer, _ = score([paths[4], paths[1].with_name("renamed.png"), paths[3]], cache)
    assert (values, judged, scorer.cached) == ([40, 10, 30], 2, 1)


def test_a_picture_that_was_edited_is_judged_again(paths, cache):
    score(paths, cache)
    Image.new("RGB", (64, 64), (99, 0, 0)).save(paths[2])
    values, judged, _, _ = score(paths, cache)
    assert (values, judged) == ([0, 10, 99, 30, 40], 1)


def test_scorer_and_reading_are_part_of_the_key(paths, cache):
    score(paths, cache)
    assert score(paths, cache, identity="another")[1] == 5
    assert score(paths, cache, reading=published_reading("native", batch=2))[1] == 5
    cropped = Reading(values={"crop": 32}, read=published_reading(32, batch=2).read)
    assert score(paths, cache, reading=cropped)[1] == 5
    # How many pictures are judged at a time is not.
    assert score(paths, cache, reading=published_reading(256, batch=5))[1] == 0


def test_without_an_identity_or_a_cache_nothing_is_kept(paths, cache):
    for options in ({"identity": None, "cache": cache}, {"cache": None}):
        for _ in range(2):
            assert score(paths, **options)[1] == 5


def test_unreadable_pictures_are_kept_with_their_reason(paths, cache):
    paths[1].write_bytes(b"no picture")
    first, second = score(paths, cache), score(paths, cache)
    for values, _, _, task in (first, second):
        assert task.reasons == {1: "cannot be read: not a picture of a known format"}
        assert [values[0], *values[2:]] == [0, 20, 30, 40]
    assert second[1] == 0
    assert second[2].cached == 4


def test_a_missing_file_is_a_reason_that_is_not_kept(paths, cache):
    content = paths[1].read_bytes()
    paths[1].unlink()
    assert score(paths, cache)[3].reasons == {1: "no such file"}
    paths[1].write_bytes(content)
    assert score(paths, cache)[0][1] == 10


def test_a_logit_that_is_no_number_is_not_kept(paths, cache):
    class Broken(RedJudge):
        def logits(self, images):
            return np.full(len(images), np.nan, np.float32)

    assert np.isnan(score(paths, cache, load=Broken)[0]).all()
    assert score(paths, cache)[1] == 5


def test_a_file_written_while_it_is_judged_is_not_kept(paths, cache):
    class Slow(RedJudge):
        def logits(self, images):
            Image.new("RGB", (64, 64), (77, 0, 0)).save(paths[0], compress_level=0)
            return super().logits(images)

    content = paths[0].read_bytes()
    assert score(paths[:1], cache, load=Slow)[0] == [0]
    assert score(paths[:1], cache)[:2] == ([77], 1)
    paths[0].write_bytes(content)
    assert score(paths[:1], cache)[1] == 1


def refuse():
    raise UnavailableError("red: not run: no CUDA device")


def test_what_cannot_run_is_not_run_and_what_it_once_did_is_still_known(paths, cache):
    values, _, scorer, task = score(paths, cache, load=refuse)
    assert (values, scorer.not_run, task.found) == (None, "red: not run: no CUDA device", {})
    score(paths[:3], cache)
    # All of these are known, so there is nothing to run; of the others nothing is shown, not even what is known.
    assert score(paths[:3], cache, load=refuse)[0] == [0, 10, 20]
    values, _, scorer, _ = score(paths, cache, load=refuse)
    assert (values, scorer.cached) == (None, 0)
    with pytest.raises(UnavailableError):
        score(paths, cache, load=refuse, required=True)


def test_each_batch_is_kept_at_once(paths, cache):
    class Interrupted(RedJudge):
        def logits(self, images):
            if self.judged == 4:
                raise KeyboardInterrupt
            return super().logits(images)

    judge = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        score(paths, cache, load=lambda: judge)
    values, judged, scorer, _ = score(paths, cache)
    assert (values, judged, scorer.cached) == ([0, 10, 20, 30, 40], 1, 4)


def test_two_scorers_share_the_reading_and_each_judges_what_it_lacks(paths, cache):
    score(paths[1:3], cache)
    reads = []

    def read(chosen, config):
        reads.append([path.name for path in chosen])
        return published_reading(256, batch=3).read(chosen, config)

    reading = Reading(values=published_reading(256, batch=3).values, read=read)
    task = Task(what="scoring", paths=paths, prints=fingerprint_files(paths), reading=reading)
    judges = [RedJudge(), RedJudge()]
    scorers = [
        Scorer(name=name, identity={"file": name}, load=lambda judge=judge: judge)
        for name, judge in zip(("one", "two"), judges, strict=True)
    ]
    steps = []
    plan_tasks([task], scorers, cache)
    run_tasks([task], scorers, cache, lambda *step: steps.append(step))
    assert [judge.judged for judge in judges] == [3, 5]
    assert task.found["one"] == task.found["two"] == [0, 10, 20, 30, 40]
    assert len(reads) == 1
    assert steps[-1] == ("scoring", 5, 5)
