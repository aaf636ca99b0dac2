import math

import numpy as np
import pytest

from lfm_deploy.detectors.answers import threshold_logit, to_scores
from lfm_deploy.detectors.detector_contract import Meaning, OutputContract
from lfm_deploy.errors import DetectorError


def contract(meaning, threshold=None, fake_index=None):
    meaning = Meaning(meaning)
    default = 0.5 if meaning.is_probability else 0.0
    return OutputContract(
        name=None, meaning=meaning, fake_index=fake_index, threshold=default if threshold is None else threshold
    )


def test_logits_are_moved_by_the_threshold():
    found = to_scores(np.float32([[1.5], [-2], [0.25]]), contract("logit", 0.25), 3)
    assert found.dtype == np.float64
    assert found.tolist() == [1.25, -2.25, 0.0]


@pytest.mark.parametrize("shape", [(2,), (2, 1), (2, 1, 1, 1)])
def test_any_shape_that_holds_one_value_a_picture(shape):
    assert to_scores(np.float32([1, 2]).reshape(shape), contract("logit"), 2).tolist() == [1, 2]


def test_a_scalar_is_the_answer_to_one_picture():
    assert to_scores(np.float32(3), contract("logit"), 1).tolist() == [3]


@pytest.mark.parametrize(("fake_index", "sign"), [(1, 1), (0, -1)])
def test_two_logits_are_subtracted_without_losing_digits(fake_index, sign):
    # In float32 the difference would round to 16777216.
    found = to_scores(np.float32([[-1, 2**24], [3, 1]]), contract("logits", 0.5, fake_index), 2)
    assert found.tolist() == [sign * (2**24 + 1) - 0.5, sign * -2 - 0.5]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_probabilities_are_log_odds(dtype):
    logits = np.linspace(-6, 6, 25)
    probabilities = (1 / (1 + np.exp(-logits))).astype(dtype)
    expected = [math.log(p / (1 - p)) for p in probabilities.astype(np.float64).tolist()]
    found = to_scores(probabilities, contract("probability"), 25)
    # Two logarithms of at most 6, each rounded to 2^-53 of that, and a quotient before the reference's.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


def test_neighbouring_probabilities_never_tie_and_keep_their_order():
    bits = np.linspace(1, np.float32(1).view(np.uint32) - 2, 100_001).astype(np.uint32)
    edges = np.arange(1, 1000, dtype=np.uint32)
    starts = np.concatenate([bits, edges, np.float32(1).view(np.uint32) - 1 - edges])
    lower, upper = starts.view(np.float32), (starts + 1).view(np.float32)
    assert lower.min() > 0
    assert upper.max() < 1
    below, above = (to_scores(side, contract("probability"), len(side)) for side in (lower, upper))
    assert (below < above).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_0_and_1_stay_beyond_all_others_and_finite(dtype):
    kind = np.finfo(dtype)
    values = np.array([0, kind.smallest_subnormal, 0.5, 1 - kind.epsneg, 1], dtype)
    found = to_scores(values, contract("probability"), 5)
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()
    if dtype is np.float32:  # as the module's text says
        assert found[[0, -1]].tolist() == pytest.approx([-103.97, 17.33], abs=0.005)


def test_a_softmax_uses_what_is_left_of_the_other_class():
    # In float32 both round to 1 for "fake"; the other class tells them apart.
    found = to_scores(
        np.float32([[1e-10, 1], [1e-20, 1], [0, 1], [1, 0], [0.25, 0.75]]), contract("softmax", 0.5, 1), 5
    )
    assert found[:2].tolist() == pytest.approx([10 * math.log(10), 20 * math.log(10)], abs=1e-6)  # 1e-10 in float32
    assert found[2] == -found[3] == pytest.approx(103.97, abs=0.005)
    assert found[4] == math.log(0.75) - math.log(0.25)


def test_the_column_of_fake():
    values = np.float32([[0.25, 0.75]])
    assert to_scores(values, contract("softmax", 0.5, 0), 1) == -to_scores(values, contract("softmax", 0.5, 1), 1)


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.7, 0.999])
def test_above_the_threshold_is_above_0(threshold):
    exact = np.float32(threshold)
    values = np.array([np.nextafter(exact, np.float32(0)), exact, np.nextafter(exact, np.float32(1))])
    found = to_scores(values, contract("probability", threshold), 3)
    assert (found > 0).tolist() == [float(value) > threshold for value in values]
    assert threshold_logit(contract("probability", threshold)) == pytest.approx(math.log(threshold / (1 - threshold)))


def test_no_number_stays_none():
    found = to_scores(np.float32([np.nan, 0.5]), contract("probability"), 2)
    assert np.isnan(found).tolist() == [True, False]
    assert np.isnan(to_scores(np.float32([[np.nan, 1], [0.5, 0.5]]), contract("softmax", 0.5, 1), 2))[0]


@pytest.mark.parametrize(
    ("meaning", "values", "message"),
    [
        (
            "probability",
            [[0.5], [3.25]],
            "the output has 3.25, which is no probability; is its meaning 'logit' and not",
        ),
        ("softmax", [[-1.0, 2.0], [0.5, 0.5]], "the output has -1, which is no probability; is its meaning 'logits'"),
        ("softmax", [[0.5, 0.5], [0.75, 0.5]], "the output has 0.75 and 0.5, which do not add up to 1"),
        ("logit", [[1.0, 2.0], [1.0, 2.0]], r"the output of 2 pictures is \(2, 2\), expected \(2, 1\) for meaning"),
        ("logits", [[1.0], [2.0]], r"the output of 2 pictures is \(2, 1\), expected \(2, 2\) for meaning 'logits'"),
        ("logit", [[1.0, 2.0]], r"the output of 2 pictures is \(1, 2\)"),
    ],
)
def test_answers_that_contradict_their_meaning(meaning, values, message):
    fake_index = 1 if Meaning(meaning).columns == 2 else None
    with pytest.raises(DetectorError, match=message):
        to_scores(np.float32(values), contract(meaning, None, fake_index), 2)


def test_a_softmax_in_half_precision_is_one():
    values = np.array([[0.30004883, 0.70068359], [1, 1e-7]], np.float16)
    assert np.isfinite(to_scores(values, contract("softmax", 0.5, 1), 2)).all()
