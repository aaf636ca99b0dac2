import numpy as np
import pytest
from scipy.stats import bootstrap, norm
from sklearn.metrics import roc_auc_score

from lfm_deploy.metrics.estimate import resolution
from lfm_deploy.metrics.paired import estimate_change
from lfm_deploy.metrics.summary import make_resampling, summarise


def summarise_sets(sets, rounds=200, seed=0, threshold=0.0):
    return summarise(sets, threshold, make_resampling([labels for _, labels in sets], rounds, seed))


def some_set(real, fake, seed=0, gap=2.0):
    """Logits of two normal distributions, ``gap`` apart and as far from the threshold, in no order of classes."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([0, 1], [real, fake]))
    return (rng.normal(size=real + fake) + gap * (labels - 0.5)).astype(np.float32), labels


@pytest.mark.parametrize("name", ["acc_real", "balanced_acc", "auc"])
def test_intervals_are_those_of_scipys_bootstrap(name):
    logits, labels = some_set(90, 70)
    found = getattr(summarise_sets([(logits, labels)], rounds=2000).pooled, name)
    real, fake = logits[labels == 0], logits[labels == 1]

    def statistic(real, fake, axis):
        if name == "auc":
            return (fake[..., None, :] > real[..., :, None]).mean(axis=(-1, -2))
        right = (real <= 0).mean(axis=axis)
        return right if name == "acc_real" else (right + (fake > 0).mean(axis=axis)) / 2

    theirs = bootstrap((real, fake), statistic, n_resamples=2000, method="percentile", rng=1, batch=100)
    # A 2.5 % quantile of 2,000 rounds has a standard error of sqrt(0.025 * 0.975 / 2000) / 0.0584 = 0.06 standard
    # deviations of the figure, two of them differ by 0.085; four times that.
    tolerance = 0.34 * theirs.standard_error
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=tolerance)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=tolerance)


def test_intervals_cover_the_truth_as_often_as_they_say():
    """200 test sets of 150 pictures from known distributions, 200 rounds each."""
    large = some_set(200_000, 200_000, seed=10**6)
    truth = {"acc": norm.cdf(1), "acc_fake": norm.cdf(1), "auc": norm.cdf(2 / np.sqrt(2))}
    truth["ap"] = summarise_sets([large], rounds=1).pooled.ap.value
    covered = dict.fromkeys(truth, 0)
    for seed in range(200):
        metrics = summarise_sets([some_set(75, 75, seed)], rounds=200, seed=seed).pooled
        for name, value in truth.items():
            estimate = getattr(metrics, name)
            covered[name] += estimate.low <= value <= estimate.high
    for name, times in covered.items():
        # Percentile intervals of so few pictures cover a little less than 95 %, say 93 %; three standard errors of 200
        # trials are 5.4 %. No more than 99 %, or they would be too wide to be of use.
        assert 0.93 - 0.054 <= times / 200 <= 0.99, name


def test_the_calibration_error_is_covered_although_resampling_inflates_it():
    def draw(size, seed):
        rng = np.random.default_rng(seed)
        logits = rng.normal(scale=2, size=size)
        return 2 * logits, (rng.random(size) < 1 / (1 + np.exp(-logits))).astype(int)  # twice as sure as it may be

    truth = summarise_sets([draw(400_000, 10**6)], rounds=1).pooled.ece.value
    found = [summarise_sets([draw(400, seed)], rounds=200).pooled.ece for seed in range(100)]
    # Nominally 95 %, somewhat less for a figure with a bias; three standard errors of 100 trials are 6.5 %.
    assert sum(estimate.low <= truth <= estimate.high for estimate in found) >= 86


def test_a_difference_is_covered_and_far_narrower_than_between_unpaired_engines():
    covered, widths = 0, []
    for seed in range(100):
        logits, labels = some_set(75, 75, seed)
        # Another engine: the same logits with noise, so that some decisions flip and none is favoured.
        other = logits + np.random.default_rng((seed, 1)).normal(scale=0.2, size=150)
        resampling = make_resampling([labels], 200, seed)
        one, two = (summarise([(values, labels)], 0.0, resampling) for values in (logits, other))
        unpaired = summarise([(other, labels)], 0.0, make_resampling([labels], 200, seed + 1000))
        changes = [
            estimate_change(
                engine.mean.acc.value,
                one.mean.acc.value,
                engine.mean_rounds["acc"],
                one.mean_rounds["acc"],
                effective=150,
                always_floored=True,
            )
            for engine in (two, unpaired)
        ]
        truth = norm.cdf(1 / np.sqrt(1.04)) - norm.cdf(1)
        covered += changes[0].estimate.low <= truth <= changes[0].estimate.high
        widths.append([change.sampled.width for change in changes])
    assert covered >= 93  # never less than nominal, as the least width counts; 95 less one standard error
    paired, unpaired = np.mean(widths, axis=0)
    assert paired < unpaired / 2


def test_identical_engines_differ_by_nothing_in_every_round():
    sets = [some_set(20, 30), some_set(15, 10, seed=1)]
    resampling = make_resampling([labels for _, labels in sets], 100, 0)
    one, two = (summarise(sets, 0.0, resampling) for _ in range(2))
    for name in ("acc", "ap"):
        assert (one.mean_rounds[name] == two.mean_rounds[name]).all()


def test_means_are_over_complete_sets_and_pools_over_all_pictures():
    both, other, one_class = some_set(40, 30), some_set(12, 20, seed=1), some_set(25, 0, seed=2)
    found = summarise_sets([both, other, one_class])
    first, second, third = found.sets
    for name in ("acc", "acc_real", "balanced_acc", "ap", "auc", "ece"):
        values = [getattr(part, name).value for part in (first, second)]
        assert getattr(found.mean, name).value == pytest.approx(np.mean(values), abs=1e-12)
    logits, labels = (np.concatenate(parts) for parts in zip(both, other, one_class, strict=True))
    assert found.pooled.acc.value == ((logits > 0) == labels).mean()
    assert found.pooled.auc.value == pytest.approx(roc_auc_score(labels, logits), abs=1e-12)
    assert third.acc.value == third.acc_real.value
    assert third.ap is third.auc is third.acc_fake is third.balanced_acc is third.best_threshold is None
    assert third.ece is not None
    assert all(fixed.threshold is fixed.acc_fake is None for fixed in third.at_fpr)
    # The pool is what one set of all these pictures would be, in every figure of the sample.
    whole = summarise_sets([(logits, labels)]).pooled
    assert whole.best_threshold.threshold.value == found.pooled.best_threshold.threshold.value
    assert whole.ece.value == pytest.approx(found.pooled.ece.value, abs=1e-12)


def test_the_rounds_of_a_pool_are_sums_over_sets(monkeypatch):
    sets = [some_set(40, 30), some_set(12, 20, seed=1), some_set(25, 0, seed=2)]
    resampling = make_resampling([labels for _, labels in sets], 30, 0)
    (counts,) = resampling.blocks()
    pooled = summarise(sets, 0.0, resampling).pooled
    ordered = [
        (logits[order], labels[order]) for logits, labels in sets for order in [np.argsort(labels, kind="stable")]
    ]
    logits, labels = (np.concatenate(parts) for parts in zip(*ordered, strict=True))
    accuracies, aucs = [], []
    for row in counts:
        accuracies.append(((logits > 0) == labels) @ row / 127)
        aucs.append(roc_auc_score(labels, logits, sample_weight=row))
    for estimate, rounds in ((pooled.acc, accuracies), (pooled.auc, aucs)):
        low, high = np.quantile(rounds, (0.025, 0.975))
        assert (estimate.low, estimate.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))


def test_a_logit_that_is_no_number_decides_real_and_ranks_nothing():
    logits, labels = some_set(10, 10)
    broken = logits.copy()
    broken[np.flatnonzero(labels == 1)[0]] = np.nan
    broken[np.flatnonzero(labels == 0)[0]] = np.inf
    found = summarise_sets([(broken, labels), (logits, labels)])
    spoilt = found.sets[0]
    assert (
        spoilt.acc_real.value == ((logits <= 0) | (np.arange(20) == np.flatnonzero(labels == 0)[0]))[labels == 0].mean()
    )
    assert spoilt.ap is spoilt.auc is spoilt.ece is spoilt.best_threshold is None
    # A mean or a pool without one of its sets would be a figure of something else.
    assert found.mean.ap is found.pooled.ap is found.pooled.ece is None
    assert found.mean.acc is not None
    assert found.sets[1].ap is not None


def test_an_engine_that_says_the_same_of_everything():
    labels = np.repeat([0, 1], [30, 10])
    found = summarise_sets([(np.full(40, 2.0), labels)]).pooled
    assert (found.acc.value, found.acc_fake.value, found.balanced_acc.value) == (0.25, 1, 0.5)
    assert (found.auc.value, found.ap.value, found.best_threshold.balanced_acc.value) == (0.5, 0.25, 0.5)
    assert found.best_threshold.threshold.value == 2  # above it is nothing
    assert found.at_fpr[2].acc_fake.value == 0
    # Every round says the same, and 40 pictures cannot be that sure.
    assert found.acc.high == pytest.approx(0.25 + resolution(40))


def test_one_picture_of_each_class_knows_next_to_nothing():
    found = summarise_sets([(np.array([-1.0, 1.0]), np.array([0, 1]))]).pooled
    assert (found.acc.value, found.ap.value, found.auc.value) == (1, 1, 1)
    assert found.acc_real.low == pytest.approx(1 - resolution(1))
    assert found.acc_real.low < found.acc.low < 0.2


def test_another_threshold_moves_decisions_and_no_ranking():
    sets = [some_set(40, 30)]
    at_zero, at_one = summarise_sets(sets).pooled, summarise_sets(sets, threshold=1.0).pooled
    assert at_one.acc_real.value > at_zero.acc_real.value
    assert at_one.ap == at_zero.ap
    assert at_one.best_threshold == at_zero.best_threshold
