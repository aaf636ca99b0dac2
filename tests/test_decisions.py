import csv

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from lfm_deploy.errors import MetricError
from lfm_deploy.metrics.decisions import accuracy, average_precision, decision_flips


def average_precision_by_definition(scores, labels):
    """Mean over fakes of the precision at their score: fakes at or above it among all at or above it."""
    return np.mean([labels[scores >= score].mean() for score in scores[labels == 1]])


@pytest.mark.parametrize("seed", range(20))
def test_average_precision_is_its_definition_also_with_ties(seed):
    rng = np.random.default_rng(seed)
    labels = np.append(rng.integers(0, 2, 99), [0, 1])
    scores = rng.integers(0, 5, 101) / 4  # five values, so most scores tie
    # Ties share one threshold; float64 sums of 100 terms.
    assert average_precision(scores, labels) == pytest.approx(
        average_precision_by_definition(scores, labels), abs=1e-12
    )


def test_the_order_of_files_does_not_matter():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 200), rng.integers(0, 9, 200).astype(float)
    order = rng.permutation(200)
    # Float64 sums in another order.
    assert average_precision(scores, labels) == pytest.approx(
        average_precision(scores[order], labels[order]), abs=1e-12
    )


def test_logits_rank_where_their_float32_sigmoid_ties():
    logits, labels = np.array([20.0, 40.0], dtype=np.float32), np.array([0, 1])
    assert average_precision(logits, labels) == 1
    sigmoid = 1 / (1 + np.exp(-logits))
    assert average_precision_score(labels, sigmoid) == 0.5


def test_on_real_logits_a_float32_sigmoid_would_tie_and_logits_do_not(shared):
    with (shared / "wild" / "authors_logits.csv").open() as file:
        rows = list(csv.DictReader(file))
    logits = np.array([row["logit"] for row in rows], dtype=np.float32)
    labels = np.array([int("1_fake" in row["path"]) for row in rows])
    sigmoid = 1 / (1 + np.exp(-logits))
    assert (sigmoid == 1).sum() > 200  # real and fake among them: their order is lost
    assert set(labels[sigmoid == 1]) == {0, 1}
    ranks = np.unique(logits, return_inverse=True)[1].astype(float)
    assert average_precision(logits, labels) == average_precision(ranks, labels)


def test_accuracies_by_hand():
    logits, labels = np.array([-1.0, 0.0, 1.0, 2.0]), np.array([0, 0, 0, 1])
    assert accuracy(logits, labels) == 0.75
    assert accuracy(logits, labels, threshold=1.5) == 1


def test_flips():
    assert decision_flips(np.array([-1.0, 0.0, 3.0]), np.array([1.0, -1.0, 2.0])).tolist() == [0]


@pytest.mark.parametrize(
    ("scores", "labels", "complaint"),
    [
        ([1.0], [1], "real pictures and fake"),
        ([1.0, 2.0], [1], "as many scores"),
        ([1.0, np.nan], [0, 1], "not a number"),
        ([1.0, 2.0], [0, 2], "0 \\(real\\) or 1"),
        ([], [], "no pictures"),
    ],
)
def test_what_has_no_average_precision(scores, labels, complaint):
    with pytest.raises(MetricError, match=complaint):
        average_precision(np.array(scores, dtype=float), np.array(labels, dtype=int))


def test_lengths_and_classes_of_the_others():
    with pytest.raises(MetricError, match="same pictures"):
        decision_flips(np.zeros(2), np.zeros(3))
