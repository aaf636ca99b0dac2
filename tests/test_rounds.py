import numpy as np
import pytest
from scipy import stats

from lfm_deploy.benchmark.rounds import (
    QUOTABLE_RUNS,
    QUOTABLE_SECONDS,
    Effort,
    Turn,
    schedule_turns,
    spread_of,
    summarise_times,
)


def test_engines_take_turns_at_each_batch_size_in_every_round():
    turns = schedule_turns({"a": (1, 8), "b": (1, 8)}, 2, first=["ceiling"])
    one_round = [("ceiling", None), ("a", 1), ("b", 1), ("a", 8), ("b", 8)]
    assert turns == [Turn(index, *turn) for index in (0, 1) for turn in one_round]


def test_an_engine_sits_out_where_it_does_not_take_the_batch_size():
    turns = schedule_turns({"a": (1, 2, 4), "b": (2, 8), "c": ()}, 1)
    assert [(turn.name, turn.batch) for turn in turns] == [("a", 1), ("a", 2), ("b", 2), ("a", 4), ("b", 8)]


@pytest.mark.parametrize("seed", range(5))
def test_statistics_agree_with_numpy_and_scipy(seed):
    rng = np.random.default_rng(seed)
    rounds = [rng.gamma(2, 0.01, size).tolist() for size in (7, 40, 3)]
    times = np.concatenate(rounds)
    found = summarise_times(rounds, 8)
    close = {"rel": 1e-12, "abs": 0}  # sums of 50 float64
    assert found.runs == 50
    assert found.mean_ms == pytest.approx(1e3 * np.mean(times), **close)
    for percentile in (50, 90, 95, 99):
        expected = 1e3 * stats.scoreatpercentile(times, percentile)
        assert getattr(found, f"p{percentile}_ms") == pytest.approx(expected, **close)
    assert found.iqr_share == pytest.approx(stats.iqr(times) / np.median(times), **close)
    assert found.fps == pytest.approx(8 * 50 / times.sum(), **close)
    medians = [np.median(part) for part in rounds]
    assert found.rounds_share == pytest.approx(np.ptp(medians) / np.median(medians), **close)
    assert found.round_fps == pytest.approx([8 * len(part) / np.sum(part) for part in rounds], **close)


def test_slow_runs_count_in_the_throughput():
    # Nine runs of 1 s and one of 11 s: 20 s for 10 pictures, although the median says one a second.
    found = summarise_times([[1.0] * 9 + [11.0]], 1)
    assert (found.fps, found.p50_ms, found.rounds_share) == (0.5, 1000.0, 0.0)


@pytest.mark.parametrize("rounds", [2, 3, 5, 7, 10, 30])
def test_a_quotable_effort_has_its_seconds_and_its_runs(rounds):
    effort = Effort(seconds=QUOTABLE_SECONDS, rounds=rounds)
    assert not effort.quick
    assert effort.turn_runs * rounds >= QUOTABLE_RUNS
    assert effort.turn_seconds * rounds == pytest.approx(QUOTABLE_SECONDS)


@pytest.mark.parametrize(("seconds", "rounds"), [(2.9, 5), (60, 1)])
def test_less_time_or_no_second_round_is_a_quick_look(seconds, rounds):
    assert Effort(seconds=seconds, rounds=rounds).quick


def test_spread():
    assert spread_of([8, 10, 13]) == 0.5
