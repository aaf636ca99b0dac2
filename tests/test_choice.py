from pathlib import Path

import numpy as np
import pytest

from lfm_deploy.errors import ConfigError, MetricError, SuiteError
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.thresholds.choice import Claim, choose


def make_scores(real, fake, categories=()):
    logits = np.concatenate([real, fake]).astype(np.float32)
    return Scores(
        paths=tuple(Path(f"{index}.png") for index in range(len(logits))),
        labels=np.repeat([0, 1], [len(real), len(fake)]),
        logits=logits,
        categories=categories,
    )


def draw(seed, real=400, fake=300, shift=2.0):
    rng = np.random.default_rng(seed)
    return make_scores(rng.normal(size=real), rng.normal(shift, 1, size=fake))


def test_fresh_pictures_keep_the_rate_and_the_recall_that_was_told():
    choice = choose([("one", draw(0, 2000, 2000))], Claim(rate=0.05))
    fresh = draw(1, 200_000, 200_000)
    called = fresh.logits > choice.threshold
    # 200,000 pictures know a rate to 0.0005 and a recall to 0.0011.
    assert called[fresh.labels == 0].mean() < 0.05
    recall = choice.all.fake_called_fake.estimate
    assert recall.low - 0.0011 <= called[fresh.labels == 1].mean() <= recall.high + 0.0011


def test_fresh_pictures_keep_both_rates_of_a_band():
    scores = draw(0, 2000, 2000)
    choice = choose([("one", scores)], Claim(rate=0.05, miss_rate=0.03))
    fresh = draw(1, 200_000, 200_000)
    assert (fresh.logits[fresh.labels == 1] <= choice.uncertain_above).mean() < 0.03
    assert (fresh.logits[fresh.labels == 0] > choice.threshold).mean() < 0.05
    shares = choice.all
    parts = (shares.fake_called_fake, shares.fake_uncertain, shares.fake_called_real)
    assert sum(part.found for part in parts) == 2000
    between = (scores.logits > choice.uncertain_above) & (scores.logits <= choice.threshold)
    assert shares.fake_uncertain.found == between[2000:].sum() > 0
    assert shares.real_uncertain.found == between[:2000].sum() > 0


def test_classes_that_lie_far_apart_need_no_band():
    choice = choose([("one", draw(0, shift=20))], Claim(rate=0.01, miss_rate=0.01))
    assert choice.uncertain_above is None
    assert choice.all.fake_called_fake.found == 300


def test_the_worst_group_is_named():
    rng = np.random.default_rng(0)
    good, bad = make_scores(rng.normal(size=900), []), make_scores(rng.normal(1.5, 1, size=300), [])
    choice = choose([("good", good), ("bad", bad)], Claim(rate=0.05))
    assert choice.worst.name == "bad"
    assert choice.worst.real_called_fake.estimate.value > 0.05


def test_the_rate_can_be_kept_in_each_group():
    rng = np.random.default_rng(0)
    sets = [("good", make_scores(rng.normal(size=900), [])), ("bad", make_scores(rng.normal(3, 1, size=300), []))]
    together, each = choose(sets, Claim(rate=0.05)), choose(sets, Claim(rate=0.05, each_group=True))
    assert each.threshold > together.threshold
    assert all(group.real_called_fake.bound <= 0.05 for group in each.groups)


def test_categories_of_one_set_are_groups():
    scores = make_scores(np.zeros(300), [], ("cats",) * 100 + ("dogs",) * 200)
    assert [group.name for group in choose([("one", scores)], Claim(rate=0.02)).groups] == ["cats", "dogs"]


def test_bad_input_is_one_line():
    some = draw(0)
    with pytest.raises(SuiteError, match="no real picture"):
        choose([("one", make_scores([], np.ones(9)))], Claim(rate=0.1))
    with pytest.raises(SuiteError, match="no fake"):
        choose([("one", make_scores(np.ones(300), []))], Claim(rate=0.1, miss_rate=0.1))
    some.logits[3] = np.nan
    with pytest.raises(MetricError, match="1 of 700 logits are no finite number"):
        choose([("one", some)], Claim(rate=0.1))
    sets = [("good", draw(1)), ("bad", make_scores(np.zeros(20), []))]
    with pytest.raises(MetricError, match="bad: of the real class, 20 pictures cannot show"):
        choose(sets, Claim(rate=0.01, each_group=True))
    for rate in (0, 1, -0.1, float("nan")):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            Claim(rate=rate)
