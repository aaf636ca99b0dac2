import numpy as np
import pytest
import torch
from scipy.stats import chi2

from lfm_deploy.errors import ConfigError, ShapeError
from training.regularizers import drop_probabilities, rank_based_linear_dropout, sample_random_k

# A right implementation fails such a test for one seed in a thousand; the seeds are fixed.
SIGNIFICANCE = 1e-3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("k", [2, 4, 16, 256])
def test_probabilities_rise_evenly_from_the_smallest_value_to_the_largest(k):
    # Ten units in the last place of numbers around 0.3.
    np.testing.assert_allclose(drop_probabilities(k), np.linspace(0.1, 0.3, k), atol=3e-7)
    np.testing.assert_allclose(drop_probabilities(k, 0.0, 0.5), np.linspace(0.0, 0.5, k), atol=3e-7)


def test_a_single_value_has_the_mean_probability():
    assert drop_probabilities(1).tolist() == pytest.approx([0.2])


@pytest.mark.parametrize("bounds", [(-0.1, 0.3), (0.3, 0.1), (0.1, 1.0)])
def test_bounds_that_are_no_probabilities(bounds):
    with pytest.raises(ConfigError, match="p_min <= p_max < 1"):
        drop_probabilities(4, *bounds)


def test_each_rank_is_dropped_as_often_as_its_probability_says():
    draws, k = 40_000, 16
    dropped = (rank_based_linear_dropout(torch.ones(draws, 1, k), seeded()) == 0).sum((0, 1)).numpy()
    expected = np.linspace(0.1, 0.3, k)
    # Ranks are independent, so the squared standard scores of k binomial counts are chi-square with k degrees.
    statistic = ((dropped - draws * expected) ** 2 / (draws * expected * (1 - expected))).sum()
    assert chi2.sf(statistic, df=k) > SIGNIFICANCE
    # It can tell: p_min for every rank, as in the published code, would be found out.
    assert chi2.sf(((dropped - draws * 0.1) ** 2 / (draws * 0.09)).sum(), df=k) < SIGNIFICANCE


def test_ranks_and_channels_are_dropped_independently():
    kept = rank_based_linear_dropout(torch.ones(20_000, 2, 3), seeded(1)).flatten(1).ne(0).double()
    correlations = torch.corrcoef(kept.T) - torch.eye(6)
    # Five standard deviations of a correlation of 20000 independent pairs.
    assert correlations.abs().max() < 5 / 20_000**0.5


def test_what_stays_is_rescaled_or_not():
    values = torch.arange(1.0, 17).expand(50, 4, 16)
    uniforms = torch.rand(values.shape, generator=seeded())
    plain = rank_based_linear_dropout(values, rescale=False, uniforms=uniforms)
    scaled = rank_based_linear_dropout(values, uniforms=uniforms)
    assert bool(((plain == values) | (plain == 0)).all())
    # 1 / (1 - mean p) with a mean of 0.2; float32 rounds it and the product.
    torch.testing.assert_close(scaled, plain * 1.25, rtol=1e-6, atol=0)
    assert scaled.dtype == torch.float32


def test_the_gradient_of_dropout_is_that_of_finite_differences():
    values = torch.rand(2, 3, 5, dtype=torch.float64, generator=seeded()).sort(dim=2).values.requires_grad_()
    uniforms = torch.rand(2, 3, 5, generator=seeded(3)) * 0.5
    assert 0 < (rank_based_linear_dropout(values, uniforms=uniforms) == 0).sum() < values.numel()
    for rescale in (True, False):
        assert torch.autograd.gradcheck(
            lambda v, rescale=rescale: rank_based_linear_dropout(v, rescale=rescale, uniforms=uniforms), values
        )


def test_positions_are_sampled_without_replacement_and_values_come_sorted():
    maps = torch.randperm(2 * 3 * 30, generator=seeded()).double().view(2, 3, 5, 6)
    sampled = sample_random_k(maps, 7, seeded(1))
    assert sampled.shape == (2, 3, 7)
    assert bool((sampled.diff(dim=2) > 0).all()), "all values differ, so a position drawn twice would show"
    for pictures, maps_of_picture in zip(sampled, maps, strict=True):
        for values, channel in zip(pictures, maps_of_picture, strict=True):
            assert set(values.tolist()) <= set(channel.flatten().tolist())
    everything = sample_random_k(maps, 30, seeded(2))
    torch.testing.assert_close(everything, maps.flatten(2).sort(dim=2).values, rtol=0, atol=0)


def test_every_position_is_drawn_equally_often():
    draws, positions, k = 20_000, 20, 5
    maps = torch.arange(float(positions)).view(1, 1, 4, 5).expand(draws, 1, 4, 5)
    counts = np.bincount(sample_random_k(maps, k, seeded(4)).flatten().long().numpy(), minlength=positions)
    # Drawn without replacement, counts vary less than multinomial ones by (positions - k) / (positions - 1).
    expected = draws * k / positions
    statistic = ((counts - expected) ** 2 / expected).sum() * (positions - 1) / (positions - k)
    # Two sides: counts that agree too well are not random either.
    assert SIGNIFICANCE < chi2.sf(statistic, df=positions - 1) < 1 - SIGNIFICANCE


def test_the_gradient_of_sampling_is_that_of_finite_differences():
    maps = torch.randperm(2 * 2 * 12, generator=seeded()).double().view(2, 2, 3, 4).requires_grad_()
    uniforms = torch.rand(2, 2, 12, generator=seeded(1))
    assert torch.autograd.gradcheck(lambda m: sample_random_k(m, 4, uniforms=uniforms), maps)


@pytest.mark.parametrize("k", [0, 13])
def test_more_values_than_positions(k):
    with pytest.raises(ShapeError, match=rf"k = {k} needs 1 to 12 positions of a 3x4 map"):
        sample_random_k(torch.zeros(1, 1, 3, 4), k)


def test_a_generator_repeats_its_draws():
    maps = torch.rand(2, 2, 4, 4)
    assert torch.equal(sample_random_k(maps, 4, seeded(7)), sample_random_k(maps, 4, seeded(7)))
    values = torch.ones(4, 4, 8)
    first, again, other = (rank_based_linear_dropout(values, seeded(seed)) for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
