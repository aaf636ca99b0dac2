import multiprocessing
import os
import signal
import sqlite3
from contextlib import closing
from typing import TypedDict

import pytest

from lfm_deploy.scoring.score_cache import CacheError, ScoreCache, scorer_key


class Fps(TypedDict):
    fps: float


ENGINE, OTHER = scorer_key(engine="a"), scorer_key(engine="b")


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def cache(tmp_path, warnings):
    with ScoreCache(tmp_path / "scores.sqlite", warnings.append) as opened:
        yield opened


def test_what_was_added_is_found_by_scorer_and_picture(cache, warnings):
    cache.add(ENGINE, {"p1": 1.5, "p2": "the file is empty"})
    cache.add(OTHER, {"p1": -2.0})
    assert cache.find(ENGINE, ["p1", "p2", "p3", "p1"]) == {"p1": 1.5, "p2": "the file is empty"}
    assert cache.find(OTHER, ["p1", "p2"]) == {"p1": -2.0}
    assert warnings == []


def test_a_float32_logit_comes_back_bit_for_bit(cache):
    import numpy as np

    logits = np.random.default_rng(0).normal(scale=20, size=2000).astype(np.float32)
    cache.add(ENGINE, {str(index): float(logit) for index, logit in enumerate(logits)})
    found = cache.find(ENGINE, [str(index) for index in range(2000)])
    assert np.array_equal(np.array([found[str(index)] for index in range(2000)], dtype=np.float32), logits)


def test_a_later_value_replaces_an_earlier_one_and_nan_is_not_kept(cache):
    cache.add(ENGINE, {"p": 1.0, "q": float("nan")})
    cache.add(ENGINE, {"p": 2.0})
    assert cache.find(ENGINE, ["p", "q"]) == {"p": 2.0}


def test_the_key_depends_on_every_value_and_not_on_their_order():
    assert scorer_key(a=1, b=2) == scorer_key(b=2, a=1) != scorer_key(a=1, b=3)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_file_cut_short_is_made_anew_with_a_warning(tmp_path, warnings, share):
    path = tmp_path / "scores.sqlite"
    with ScoreCache(path, warnings.append) as cache:
        cache.add(ENGINE, {f"{index:064}": float(index) for index in range(5000)})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with ScoreCache(path, warnings.append) as cache:
        assert cache.find(ENGINE, [f"{index:064}" for index in range(5000)]) == {}
        cache.add(ENGINE, {"p": 1.0})
    assert len(warnings) == 1
    assert "damaged" in warnings[0]
    assert str(path) in warnings[0]
    with ScoreCache(path, warnings.append) as cache:
        assert cache.find(ENGINE, ["p"]) == {"p": 1.0}
    assert len(warnings) == 1


def test_a_cache_that_another_process_holds_is_not_thrown_away(tmp_path, warnings, monkeypatch):
    monkeypatch.setattr("lfm_deploy.scoring.score_cache._PATIENCE_SECONDS", 0.05)
    path = tmp_path / "scores.sqlite"
    with ScoreCache(path, warnings.append) as cache:
        cache.add(ENGINE, {"p": 1.0})
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(CacheError, match=r"scores\.sqlite: .*locked.*--no-cache"):
            ScoreCache(path, warnings.append)
    with ScoreCache(path, warnings.append) as cache:
        assert cache.find(ENGINE, ["p"]) == {"p": 1.0}
    assert warnings == []


def test_speeds_are_found_by_scorer_and_batch(cache):
    cache.add_speeds(ENGINE, {1: {"fps": 30.5}, 32: {"fps": 46.0}})
    cache.add_speeds(ENGINE, {32: {"fps": 47.0}})
    assert cache.find_speeds(ENGINE, Fps) == {1: {"fps": 30.5}, 32: {"fps": 47.0}}
    assert cache.find_speeds(OTHER, Fps) == {}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE scores SET logit = -logit WHERE picture = 'a'",
        "UPDATE scores SET logit = '1.5' WHERE picture = 'a'",
        "UPDATE scores SET logit = NULL WHERE picture = 'a'",
        "UPDATE scores SET logit = 9e999 WHERE picture = 'a'",
        "UPDATE scores SET proof = NULL WHERE picture = 'a'",
        "UPDATE scores SET picture = 'd' WHERE picture = 'a'",
        "UPDATE scores SET scorer = 'x' WHERE picture = 'a'",
        "UPDATE scores SET logit = CAST(X'ff' AS TEXT) WHERE picture = 'a'",
    ],
)
def test_a_row_that_was_changed_is_not_used(tmp_path, warnings, change):
    path = tmp_path / "scores.sqlite"
    with ScoreCache(path, warnings.append) as cache:
        cache.add(ENGINE, {"a": 1.5, "b": -2.5, "c": "no picture"})
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(change).rowcount == 1
    with ScoreCache(path, warnings.append) as cache:
        known = cache.find(ENGINE, "abcd") | cache.find("x", "abcd")
        assert known == {"b": -2.5, "c": "no picture"}
        assert [line.partition(": ")[2] for line in warnings] == [
            "1 rows of scores are damaged; they are computed again"
        ]
        cache.add(ENGINE, {"a": 1.5})
        assert cache.find(ENGINE, "a") == {"a": 1.5}


@pytest.mark.parametrize("text", ['{"fps": 48.0}', "[" * 100_000, "{"], ids=range(3))
def test_a_speed_that_was_changed_is_not_used(tmp_path, warnings, text):
    path = tmp_path / "scores.sqlite"
    with ScoreCache(path, warnings.append) as cache:
        cache.add_speeds(ENGINE, {1: {"fps": 30.5}, 32: {"fps": 46.0}})
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE speeds SET speed = ? WHERE batch = 1", (text,))
    with ScoreCache(path, warnings.append) as cache:
        assert cache.find_speeds(ENGINE, Fps) == {32: {"fps": 46.0}}
    assert len(warnings) == 1


def test_another_file_or_version_is_made_anew(tmp_path, warnings):
    path = tmp_path / "scores.sqlite"
    path.write_text("not a database, but long enough to have been one" * 40)
    ScoreCache(path, warnings.append).close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE about SET format = 'lfm-deploy scores 99'")
    connection.close()
    ScoreCache(path, warnings.append).close()
    assert ["scores 99" in line for line in warnings] == [False, True]


def _add_for_ever(path):
    cache = ScoreCache(path, print)
    for index in range(10**9):
        cache.add(ENGINE, {str(index): float(index)})


def test_after_kill_9_everything_added_is_there(tmp_path, warnings):
    path = tmp_path / "scores.sqlite"
    process = multiprocessing.get_context("spawn").Process(target=_add_for_ever, args=(path,))
    process.start()
    with ScoreCache(path, warnings.append) as cache:
        while len(cache.find(ENGINE, map(str, range(50)))) < 50:
            assert process.is_alive()
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    with ScoreCache(path, warnings.append) as cache:
        found = cache.find(ENGINE, map(str, range(100_000)))
    assert sorted(map(int, found)) == list(range(len(found)))
    assert len(found) >= 50
    assert warnings == []
