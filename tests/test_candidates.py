import numpy as np
import pytest

from calib.candidates import PERCENTILES, find_candidates
from calib.histogram import StreamingHistogram


def histogram_of(values):
    histogram = StreamingHistogram()
    histogram.add(values.astype(np.float32))
    return histogram


@pytest.fixture(scope="module")
def activations():
    """Positive values with a long tail, as behind a ReLU."""
    return np.random.default_rng(0).exponential(2, 200_000).astype(np.float32)


def quantised(values, low, high, levels):
    """An independent quantiser: what the integers stand for."""
    scale = (max(-low, high) if levels == 127 else high - low) / levels
    zero = 0 if levels == 127 else round(-low / scale)
    least, most = (-128, 127) if levels == 127 else (0, 255)
    return (np.clip(np.round(values / scale) + zero, least, most) - zero) * scale


def test_all_methods_of_todays_tools_are_candidates(activations):
    found = find_candidates(histogram_of(activations), 255)
    assert set(found) == {"min/max", "99.9 %", "99.99 %", "99.999 %", "MSE", "entropy"}
    assert found["min/max"] == (0.0, activations.max())


@pytest.mark.parametrize("percent", PERCENTILES)
def test_percentiles_are_numpys(activations, percent):
    low, high = find_candidates(histogram_of(activations), 255)[f"{percent:g} %"]
    assert low == 0
    # A bin is 2 * 32 / 65536 wide; between two neighbours of the tail, numpy and a histogram interpolate differently.
    bin_width = 64 / 65536
    ranked = np.sort(activations)
    rank = int(len(ranked) * percent / 100)
    assert ranked[rank - 2] - bin_width <= high <= ranked[min(rank + 2, len(ranked) - 1)] + bin_width


def test_of_two_signs_as_much_is_cut_off_at_each_end():
    values = np.random.default_rng(1).normal(size=200_000)
    low, high = find_candidates(histogram_of(values), 255)["99.9 %"]
    assert (values < low).mean() == pytest.approx(0.0005, abs=5e-5)  # one bin holds up to 1e-5 of the values there
    assert (values > high).mean() == pytest.approx(0.0005, abs=5e-5)


@pytest.mark.parametrize("levels", [127, 255])
def test_mse_is_the_best_of_all_shares(activations, levels):
    low, high = find_candidates(histogram_of(activations), levels)["MSE"]

    def error(limit):
        return float(np.square(quantised(activations, 0, limit, levels) - activations).mean())

    best = min(error(share * activations.max()) for share in np.linspace(0.05, 1, 60))
    assert low == 0
    assert error(high) <= best * 1.02  # the search steps by half a per cent of min/max


def test_entropy_cuts_a_long_tail(activations):
    low, high = find_candidates(histogram_of(activations), 127)["entropy"]
    assert low == 0
    assert np.quantile(activations, 0.9) < high < activations.max()


@pytest.mark.parametrize("tail", [0.3, 1, 4, 1000])
@pytest.mark.parametrize("both_signs", [False, True])
def test_entropy_is_onnx_runtimes(tail, both_signs):
    from onnxruntime.quantization.calibrate import CalibrationMethod, HistogramCollector

    generator = np.random.default_rng(0)
    values = np.append(generator.gamma(tail, size=3000), generator.gamma(tail, 5, 20))
    histogram = histogram_of(values - values.max() / 3 if both_signs else values)
    centres, width = (histogram.edges[:-1] + histogram.edges[1:]) / 2, max(-histogram.lowest, histogram.highest)
    half, _ = np.histogram(np.abs(centres), 512, (0, width), weights=histogram.counts)
    edges = np.linspace(-width, width, 1025).astype(np.float32)
    collector = HistogramCollector(CalibrationMethod.Entropy, True, 1024, 255, 99.999, "same")
    counts = np.concatenate([half[::-1], half]).astype(np.int64)
    _, expected = collector.get_entropy_threshold((counts, edges, np.float32(-width), np.float32(width)), 255)
    low, high = find_candidates(histogram, 255)["entropy"]
    assert high == min(float(expected), histogram.highest)
    assert low == (max(-float(expected), histogram.lowest) if both_signs else 0)


def test_no_candidate_reaches_beyond_what_was_seen(activations):
    for low, high in find_candidates(histogram_of(activations), 127).values():
        assert 0 <= low <= high <= activations.max()
