import numpy as np
import pytest

from calib.histogram import BINS, ChannelHistogram, StreamingHistogram


def filled(parts):
    histogram = StreamingHistogram()
    for part in parts:
        histogram.add(part)
    return histogram


def test_counts_are_numpys_whatever_the_batches(monkeypatch):
    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32) * 3
    whole, parts = filled([values]), filled(np.array_split(values[::-1], 7))
    expected, edges = np.histogram(values, BINS, (-whole.width, whole.width))
    assert np.array_equal(whole.counts, parts.counts)
    assert whole.width == parts.width == 16  # the power of two above the largest of 10,000 normal values times 3
    # numpy divides where we multiply, so a value on an edge may fall into the next bin.
    assert np.abs(np.cumsum(whole.counts) - np.cumsum(expected)).max() <= 1
    assert np.array_equal(whole.edges, edges)


def test_growing_keeps_every_value():
    histogram = filled([np.array([1e-4, -1e-4], np.float32), np.array([1000, -3], np.float32)])
    assert histogram.counts.sum() == 4
    assert (histogram.lowest, histogram.highest) == (-3, 1000)
    assert histogram.width == 1024


def test_memory_does_not_grow_with_what_is_seen():
    histogram = StreamingHistogram()
    for seed in range(20):
        histogram.add(np.random.default_rng(seed).normal(size=1000).astype(np.float32) * 10.0**seed)
    assert histogram.counts.shape == (BINS,)
    assert histogram.counts.sum() == 20_000


def test_shrinking_keeps_counts_and_starts_at_zero_for_positive_values():
    histogram = filled([np.linspace(1, 7, 601, dtype=np.float32)])
    counts, low, high = histogram.shrunk(8)
    assert (sum(counts), low, high) == (601, 0, 7)
    assert counts[0] == 0  # below 7/8 there is nothing


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_one_value_alone_is_counted(value):
    assert filled([np.array([value], np.float32)]).counts.sum() == 1


def test_histograms_that_are_added_up_are_one_of_everything():
    generator = np.random.default_rng(0)
    parts = [generator.normal(size=1000).astype(np.float32) * factor for factor in (1e-3, 1.0, 300.0)]
    whole, added = filled(parts), StreamingHistogram.added([filled([part]) for part in parts])
    assert np.array_equal(whole.counts, added.counts)
    assert (whole.width, whole.lowest, whole.highest) == (added.width, added.lowest, added.highest)


def test_percentiles_of_channels_are_numpys_to_a_bin():
    generator = np.random.default_rng(0)
    values = np.exp(generator.normal(size=(4, 3, 50, 50)) * 2).astype(np.float32) * np.array([1e-2, 1, 9]).reshape(
        -1, 1, 1
    )
    values[:, 1, :5] = 0
    histograms = []
    for batch in np.array_split(values.astype(np.float32), 2):
        histograms.append(ChannelHistogram(3))
        histograms[-1].add(batch)
    added = ChannelHistogram.added(histograms)
    assert added.counts.sum(axis=1).tolist() == [10_000] * 3
    for percent in (50, 99, 99.9):
        exact = np.percentile(values, percent, axis=(0, 2, 3), method="inverted_cdf")
        found = added.percentile(percent)
        assert (found >= exact * 0.99).all()
        assert (found <= exact * 2 ** (1 / 16) * 1.01).all()


def test_a_channel_that_is_always_zero_has_a_percentile_of_next_to_nothing():
    histogram = ChannelHistogram(1)
    histogram.add(np.zeros((1, 1, 4, 4), np.float32))
    assert 0 < histogram.percentile(99.9)[0] < 1e-4
