import numpy as np
import pytest

from calib.flip_estimate import as_number, estimate_change, restore_estimate
from lfm_deploy.metrics.decisions import accuracy, average_precision
from lfm_deploy.quantisation import Budget

ONE = ["one source"] * 50


def sampled(rng, count):
    """Labels, and logits of two classes that overlap somewhat, as the detector's do."""
    labels = np.arange(count) % 2
    return labels, (rng.normal(size=count) * 20 + np.where(labels, 25, -25)).astype(np.float32)


def disturbed(rng, logits, bias):
    return (logits + rng.normal(size=len(logits)) * 0.8 + bias).astype(np.float32)


@pytest.mark.parametrize("bias", [0.0, 0.5, -0.8])
def test_on_average_fifty_pictures_tell_what_a_million_do(bias):
    rng = np.random.default_rng(0)
    labels, logits = sampled(rng, 1_000_000)
    moved = disturbed(rng, logits, bias)
    flips = 100 * float(((logits > 0) != (moved > 0)).mean())
    acc = 100 * (accuracy(moved, labels) - accuracy(logits, labels))
    ap = 100 * (average_precision(moved, labels) - average_precision(logits, labels))
    estimates = []
    for seed in range(400):
        few = np.random.default_rng(seed + 1)
        targets, reference = sampled(few, 50)
        estimates.append(estimate_change(disturbed(few, reference, bias), reference, targets, 0.0, ONE))
    # The means of 400 estimates: their standard errors are 0.02 to 0.03; the kernel blurs the density by 10 %.
    assert np.mean([found.flips for found in estimates]) == pytest.approx(flips, rel=0.15)
    assert np.mean([found.acc for found in estimates]) == pytest.approx(acc, abs=0.1)
    assert np.mean([found.ap for found in estimates]) == pytest.approx(ap, abs=0.05)
    # 95 % of the intervals hold the truth, but for the lower end: few pictures lie near the threshold, so that their
    # distribution is skewed and intervals of Student's t are too low more often than too high.
    held = np.mean([found.flips_low <= flips <= found.flips_high for found in estimates])
    assert 0.85 < held < 0.98


def test_counting_flips_on_fifty_pictures_would_say_next_to_nothing():
    # The reason for all this: an engine that flips 2 % shows none at all on 50 pictures in a third of all cases.
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(300):
        labels, logits = sampled(rng, 50)
        moved = (logits + rng.normal(size=50) * 2.8).astype(np.float32)
        seen.append(estimate_change(moved, logits, labels, 0.0, ONE))
    assert np.mean([found.seen_flips == 0 for found in seen]) > 0.25
    assert np.mean([bool(found.broken(Budget())) for found in seen]) > 0.95


def test_no_change_breaks_no_budget():
    labels, logits = sampled(np.random.default_rng(0), 50)
    found = estimate_change(logits, logits, labels, 0.0, ONE)
    assert (found.flips, found.flips_low, found.flips_high, found.worst) == (0, 0, 0, 0)
    assert (found.acc, found.ap, found.seen_flips) == (0, 0, 0)
    assert found.broken(Budget(acc=0, ap=0, flips=0)) == []


def test_each_part_of_a_budget_is_judged():
    labels, logits = sampled(np.random.default_rng(0), 50)
    found = estimate_change(logits + 3, logits, labels, 0.0, ONE)
    loose = {"acc": 100, "ap": 100, "flips": 100}
    assert found.broken(Budget(**loose)) == []
    assert "flips" in found.broken(Budget(**loose | {"flips": found.flips}))[0]  # its upper end counts
    assert "ACC" in found.broken(Budget(**loose | {"acc": abs(found.acc) * 0.99}))[0]
    worse = estimate_change(np.where(labels, logits - 9, logits), logits, labels, 0.0, ONE)
    assert "AP" in worse.broken(Budget(**loose | {"ap": 0.01}))[0]


def test_what_is_no_number_breaks_every_budget():
    labels, logits = sampled(np.random.default_rng(0), 50)
    broken = logits.copy()
    broken[7] = np.nan
    found = estimate_change(broken, logits, labels, 0.0, ONE)
    assert found.broken(Budget(acc=100, ap=100, flips=100))
    assert found.as_dict()["flips"] is None  # JSON has no NaN
    assert (as_number(1.5), as_number(None), as_number(float("inf"))) == (1.5, None, None)


def test_an_interval_is_over_sources_and_not_over_pictures():
    """Many pictures of one kind do not make it narrow, and the source that suffers is named."""
    rng = np.random.default_rng(0)
    labels, logits = sampled(rng, 400)
    sources = [f"source {index // 100}" for index in range(400)]
    hurt = np.array([source == "source 2" for source in sources])
    moved = np.where(hurt, disturbed(rng, logits, 3.0), logits + rng.normal(size=400) * 0.1).astype(np.float32)
    found = estimate_change(moved, logits, labels, 0.0, sources)
    alone = estimate_change(moved, logits, labels, 0.0, ["all of one"] * 400)
    assert (found.sources, found.worst_source, alone.sources) == (4, "source 2", 1)
    assert found.flips == pytest.approx(alone.flips)  # as many pictures in each
    assert found.worst > 3 * found.flips
    assert found.flips_high - found.flips > 3 * (alone.flips_high - alone.flips)
    budget = Budget(acc=100, ap=100, flips=2 * alone.flips_high)
    assert alone.broken(budget) == []
    first, second = found.broken(budget)
    assert "at most" in first
    assert second.startswith(f"flips {found.worst:.2f} % on source 2")


def test_a_source_of_many_pictures_weighs_no_more_than_one_of_few():
    labels, logits = sampled(np.random.default_rng(0), 110)
    sources = ["many"] * 100 + ["few"] * 10
    moved = logits + np.where(np.arange(110) < 100, 0.0, 3.0).astype(np.float32)
    found = estimate_change(moved, logits, labels, 0.0, sources)
    assert found.flips == pytest.approx(found.worst / 2)


def test_what_crosses_the_lower_end_of_a_band_is_told_as_flips_are():
    rng = np.random.default_rng(0)
    labels, logits = sampled(rng, 1_000_000)
    moved = disturbed(rng, logits, 0.5)
    crossed = 100 * float(((logits > -20) != (moved > -20)).mean())
    estimates = []
    for seed in range(400):
        few = np.random.default_rng(seed + 1)
        targets, reference = sampled(few, 50)
        found = estimate_change(disturbed(few, reference, 0.5), reference, targets, 0.0, ONE, uncertain_above=-20.0)
        estimates.append(found)
    # As above; here the density is higher than at the threshold, for most real pictures lie near.
    assert np.mean([found.band.share for found in estimates]) == pytest.approx(crossed, rel=0.15)
    assert crossed > 1.1 * np.mean([found.flips for found in estimates])
    few, kinds = logits[:50], labels[:50]
    alone = estimate_change(moved[:50], few, kinds, -20.0, ONE)
    band = estimate_change(moved[:50], few, kinds, 3.0, ONE, uncertain_above=-20.0).band
    assert (band.share, band.low, band.high) == pytest.approx((alone.flips, alone.flips_low, alone.flips_high))


def test_a_budget_limits_what_crosses_the_lower_end_of_a_band():
    labels, logits = sampled(np.random.default_rng(0), 50)
    near = np.abs(logits + 25) < 12
    moved = np.where(near, logits + 2, logits).astype(np.float32)  # nothing moves at the threshold
    found = estimate_change(moved, logits, labels, 40.0, ONE, uncertain_above=-25.0)
    budget = Budget(acc=100, ap=100, flips=1.01 * max(found.flips_high, found.worst))
    assert estimate_change(moved, logits, labels, 40.0, ONE).broken(budget) == []
    first, second = found.broken(budget)
    assert first.startswith(f"crossing the band's lower end {found.band.share:.2f} %, at most {found.band.high:.2f} %")
    assert second.startswith("crossing the band's lower end ")
    assert second.endswith(f"% on one source (allowed {budget.flips:g} %)")
    assert restore_estimate(found.as_dict()) == found
    assert restore_estimate(found.as_dict() | {"band": found.band.as_dict() | {"high": None}}) is None
    assert "band" not in estimate_change(moved, logits, labels, 40.0, ONE).as_dict()


def test_one_class_has_no_average_precision():
    logits = np.linspace(-9, 9, 40, dtype=np.float32)
    assert estimate_change(logits + 1, logits, np.zeros(40, int), 0.0, ["one"] * 40).ap is None
