import numpy as np
import pytest

from lfm_deploy.metrics import resampling
from lfm_deploy.metrics.resampling import Resampling


def drawn(strata, rounds, seed=0):
    return np.concatenate(list(Resampling(strata, rounds, seed).blocks()))


def test_every_round_has_as_many_pictures_of_each_class_of_each_set_as_there_are():
    counts = drawn((5, 3, 1, 4), 50)
    assert counts.shape == (50, 13)
    for low, high in ((0, 5), (5, 8), (8, 9), (9, 13)):
        assert set(counts[:, low:high].sum(axis=1)) == {high - low}


def test_counts_are_those_of_drawing_with_replacement():
    counts = drawn((40,), 5000).astype(float)
    # Binomial(40, 1/40): mean 1, variance 0.975. Of 200,000 counts these are within 0.01 by four standard errors.
    assert counts.mean(axis=0) == pytest.approx(1, abs=0.06)  # of one picture in 5,000 rounds: four standard errors
    assert counts.var() == pytest.approx(0.975, abs=0.015)
    # What one picture gains, the others lose: covariance -1/40.
    covariance = np.cov(counts[:, :2].T)[0, 1]
    assert covariance == pytest.approx(-1 / 40, abs=0.06)  # four standard errors


def test_a_seed_gives_the_same_rounds_and_another_seed_others():
    assert (drawn((20, 30), 40) == drawn((20, 30), 40)).all()
    assert (drawn((20, 30), 40) != drawn((20, 30), 40, seed=1)).any()
    suite = Resampling((20, 30), 40)
    assert all((one == other).all() for one, other in zip(suite.blocks(), suite.blocks(), strict=True))


@pytest.mark.parametrize("counts_of_a_block", [7, 50, 999])
def test_neither_blocks_nor_other_sets_nor_what_is_kept_change_the_rounds(monkeypatch, counts_of_a_block):
    expected = drawn((20, 31), 40)
    monkeypatch.setattr(resampling, "_BLOCK_COUNTS", counts_of_a_block)
    monkeypatch.setattr(resampling, "_KEPT_COUNTS", 0)
    suite = Resampling((20, 31, 9), 40)
    for _ in range(2):  # drawn anew each time, where nothing is kept
        assert (np.concatenate(list(suite.blocks()))[:, :51] == expected).all()
