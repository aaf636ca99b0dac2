import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from lfm_deploy.metrics.ranking import FALSE_POSITIVE_RATES, Ranking
from lfm_deploy.metrics.resampling import Resampling


def ranked(real, fake, rounds=30):
    """Figures of some rounds, with scores and labels of each round's pictures drawn out."""
    counts = np.concatenate(list(Resampling((len(real), len(fake)), rounds).blocks()))
    columns = np.arange(len(real) + len(fake))
    found = Ranking(real, fake, columns[: len(real)], columns[len(real) :]).judge(counts)
    scores = np.concatenate([real, fake])
    labels = np.repeat([0, 1], [len(real), len(fake)])
    return found, scores, labels, counts


def some_scores(kind, real=60, fake=45):
    rng = np.random.default_rng(3)
    if kind == "ties":
        return rng.integers(0, 6, real) / 4, rng.integers(1, 8, fake) / 4
    if kind == "constant":
        return np.full(real, 0.5), np.full(fake, 0.5)
    return rng.normal(size=real), rng.normal(1, 1, fake)


KINDS = pytest.mark.parametrize("kind", ["distinct", "ties", "constant"])


@KINDS
def test_ap_and_auc_are_those_of_scikit_learn_with_counts_as_weights(kind):
    found, scores, labels, counts = ranked(*some_scores(kind))
    for row, (ap, auc) in zip(counts, zip(found.ap, found.auc, strict=True), strict=True):
        # Sums of 100 terms in float64.
        assert ap == pytest.approx(average_precision_score(labels, scores, sample_weight=row), abs=1e-12)
        assert auc == pytest.approx(roc_auc_score(labels, scores, sample_weight=row), abs=1e-12)


@KINDS
def test_the_best_threshold_is_the_best_of_all_that_there_are(kind):
    found, scores, labels, counts = ranked(*some_scores(kind), rounds=8)  # scikit-learn judges 106 cuts of each
    cuts = np.unique(scores)
    tried = [cuts[0] - 1, *cuts]
    for row, threshold, best in zip(counts, found.best_threshold, found.best_balanced_acc, strict=True):

        def judge(threshold, row=row):
            return balanced_accuracy_score(labels, scores > threshold, sample_weight=row)

        assert best == pytest.approx(max(map(judge, tried)), abs=1e-12)  # float64 rounding
        assert judge(threshold) == pytest.approx(best, abs=1e-12)


def test_a_threshold_lies_in_the_middle_between_two_scores():
    found, *_ = ranked(np.array([-2.0, 0.0]), np.array([1.0, 4.0]), rounds=1)
    columns = np.arange(4)
    once = np.ones((1, 4), dtype=np.uint8)
    found = Ranking(np.array([-2.0, 0.0]), np.array([1.0, 4.0]), columns[:2], columns[2:]).judge(once)
    assert (found.best_threshold[0], found.best_balanced_acc[0]) == (0.5, 1)


def test_where_no_threshold_is_better_than_none_nothing_is_fake():
    found, *_ = ranked(np.array([3.0, 4.0]), np.array([1.0, 2.0]))
    assert set(found.best_threshold) == {4}
    assert set(found.best_balanced_acc) == {0.5}


@KINDS
def test_thresholds_keep_to_their_false_positive_rate_and_are_the_lowest_that_do(kind):
    found, scores, labels, counts = ranked(*some_scores(kind, real=120))
    assert sorted(found.thresholds) == [0.01, 0.05]  # 0.1 % of 120 real pictures is none of them
    for rate, thresholds in found.thresholds.items():
        for row, threshold, acc_fake in zip(counts, thresholds, found.acc_fake[rate], strict=True):
            real, fake = row * (labels == 0), row * (labels == 1)
            assert real[scores > threshold].sum() <= rate * 120 + 1e-9
            assert real[scores >= threshold].sum() > rate * 120 + 1e-9
            assert acc_fake == pytest.approx(fake[scores > threshold].sum() / 45, abs=1e-12)


def test_a_rate_needs_a_real_picture_that_it_allows():
    real, fake = np.arange(20.0), np.arange(5.0, 15.0)
    found, *_ = ranked(real, fake)
    assert list(found.thresholds) == [0.05]  # one of 20
    assert FALSE_POSITIVE_RATES == (0.001, 0.01, 0.05)


def test_one_picture_of_each_class():
    found, *_ = ranked(np.array([0.0]), np.array([1.0]))
    assert set(found.ap) == set(found.auc) == set(found.best_balanced_acc) == {1}
    found, *_ = ranked(np.array([1.0]), np.array([0.0]))
    assert set(found.ap) == {0.5}
    assert set(found.auc) == {0}


def test_long_blocks_are_judged_in_passes(monkeypatch):
    whole, *_ = ranked(*some_scores("distinct"))
    monkeypatch.setattr("lfm_deploy.metrics.ranking._PASS_COUNTS", 300)
    parts, *_ = ranked(*some_scores("distinct"))
    assert (whole.ap == parts.ap).all()
    assert (whole.acc_fake[0.05] == parts.acc_fake[0.05]).all()
