from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lfm_deploy.errors import MetricError
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.verification.comparison import compare_suite, measure_suite

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
REFERENCE = np.array([-4, -3, -2, 0.5, -0.5, 2, 3, 4], dtype=np.float32)


def scores(logits, labels=LABELS, categories=()):
    paths = tuple(Path(f"{index}.png") for index in range(len(labels)))
    logits = np.asarray(logits, dtype=np.float32)
    return Scores(paths=paths, labels=np.asarray(labels), logits=logits, categories=categories)


def measure(logits, labels=LABELS):
    return measure_suite("suite", [("set", scores(logits, labels))], 0.0, rounds=50)


def compare(logits, reference=REFERENCE, labels=LABELS):
    return compare_suite("suite", [("set", scores(logits, labels))], measure(reference, labels), 0.0)


def test_metrics_of_one_set_by_hand():
    (part,) = measure(REFERENCE).sets
    found = part.metrics
    assert (part.real, part.fake) == (4, 4)
    assert [x.value for x in (found.acc, found.acc_real, found.acc_fake, found.balanced_acc)] == [0.75] * 4
    # Ranked 4, 3, 2 (fake), 0.5 (real), -0.5 (fake): precision at each fake is 1, 1, 1 and 4/5.
    assert found.ap.value == pytest.approx((1 + 1 + 1 + 4 / 5) / 4, abs=1e-12)  # float64 sums of four terms
    assert found.auc.value == pytest.approx(15 / 16, abs=1e-12)  # of 16 pairs one is in the wrong order
    assert (found.best_threshold.threshold.value, found.best_threshold.balanced_acc.value) == (1.25, 0.875)
    assert measure(REFERENCE).against is None


def test_flips_are_found_in_both_directions_and_described():
    logits = REFERENCE.copy()
    logits[3], logits[5] = -0.1, -0.1
    against = compare(logits).against
    assert [flip.path.name for flip in against.flipped] == ["3.png", "5.png"]
    assert (against.flips, against.better, against.worse, against.mcnemar_p) == (2, 1, 1, 1)
    first = against.flipped[0]
    assert (first.set, first.label, first.reference, first.margin) == ("set", 0, 0.5, 0.5)
    assert against.logit_error.max == pytest.approx(2.1, abs=1e-6)  # one float32 rounding
    assert against.logit_error.mean == pytest.approx((0.6 + 2.1) / 8, abs=1e-6)


def test_margins_are_to_the_threshold_of_the_reference():
    reference = measure_suite("suite", [("set", scores(REFERENCE))], 1.0, rounds=5)
    result = compare_suite("suite", [("set", scores(REFERENCE))], reference, 2.5)
    (flip,) = result.against.flipped  # a logit of 2 is above the reference's threshold and below the engine's
    assert (flip.logit, flip.margin) == (2, 1)


def test_a_logit_on_the_threshold_is_real():
    # The contract: above the threshold is fake.
    against = compare(np.where(REFERENCE == 0.5, 0, REFERENCE)).against
    assert [flip.path.name for flip in against.flipped] == ["3.png"]


def test_a_logit_that_is_no_number_decides_real_and_ranks_nothing():
    broken = REFERENCE.copy()
    broken[[0, 7]] = np.nan, np.inf
    result = compare(broken)
    (part,) = result.sets
    assert not part.finite
    assert part.metrics.acc.value == 0.625  # the infinite logit of a fake counts as "real"
    assert part.metrics.ap is part.metrics.auc is part.metrics.ece is part.metrics.best_threshold is None
    assert result.mean.ap is result.pooled.ap is result.against.delta_ap is None
    assert [flip.path.name for flip in result.against.flipped] == ["7.png"]
    assert np.isnan(result.against.logit_error.max)


def test_means_are_over_sets_with_both_classes_and_the_pool_is_over_all():
    one_class = scores([-1, 1], labels=[0, 0])
    result = measure_suite("suite", [("both", scores(REFERENCE)), ("real only", one_class)], 0.0, rounds=50)
    assert result.mean.acc.value == 0.75
    assert result.pooled.acc.value == 0.7
    assert result.sets[1].metrics.ap is result.sets[1].metrics.acc_fake is None
    assert result.sets[1].metrics.acc.value == result.sets[1].metrics.acc_real.value == 0.5
    assert result.pictures == 10


def test_categories_have_figures_of_their_own():
    categories = ("cat", "cat", "dog", None, "cat", "dog", "dog", None)
    (part,) = measure_suite("suite", [("set", scores(REFERENCE, categories=categories))], 0.0, rounds=5).sets
    cat, dog = part.categories
    assert (cat.name, cat.real, cat.fake, cat.ap) == ("cat", 2, 1, 1)
    assert cat.acc == pytest.approx(2 / 3, abs=1e-12)
    assert (dog.name, dog.real, dog.fake, dog.acc, dog.ap) == ("dog", 1, 2, 1, 1)


def test_categories_of_one_class_or_without_numbers_have_no_ap():
    logits = REFERENCE.copy()
    logits[6] = np.nan
    categories = ("real", "real", "real", "real", "mixed", "mixed", "mixed", "mixed")
    (part,) = measure_suite("suite", [("set", scores(logits, categories=categories))], 0.0, rounds=5).sets
    assert [(category.name, category.ap, category.acc) for category in part.categories] == [
        ("mixed", None, 0.5),
        ("real", None, 0.75),
    ]
    assert measure(REFERENCE).sets[0].categories == ()


def test_what_does_not_belong_together_is_refused():
    reference = measure(REFERENCE)
    others = replace(scores(REFERENCE), paths=tuple(Path(f"other{index}.png") for index in range(8)))
    with pytest.raises(MetricError, match="same pictures in the same order"):
        compare_suite("suite", [("set", others)], reference, 0.0)
    with pytest.raises(MetricError, match="as many labels, logits and categories"):
        scores(REFERENCE, categories=("cat",))
