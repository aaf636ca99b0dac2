"""Figures of a few logits, worked out by hand."""

import numpy as np
import pytest
from typed_values import find_misfits

from lfm_deploy.verification.conditions import encode_jpeg
from lfm_deploy.verification.envelope_figures import ConditionResult, Envelope, SetScores, estimate_suite
from lfm_deploy.verification.envelope_values import EnvelopeValues


def scores(name, real, fake):
    logits = np.array([*real, *fake], dtype=np.float32)
    return SetScores(name=name, labels=np.array([0] * len(real) + [1] * len(fake)), logits=logits)


def value(estimate):
    return None if estimate is None else estimate.value


@pytest.fixture
def suite():
    return [
        scores("one", [-1, -2, 3, -4], [5, -1.5]),  # 3 of 4 real, 1 of 2 fakes; by score: F R R F R R
        scores("two", [-1], [1, 2, 3]),
        scores("tiles", [1, -1, -1, -1, -1], []),
        scores("gone", [], []),
    ]


def test_means_are_over_sets_with_both_classes(suite):
    found = estimate_suite(suite, 0)
    assert value(found.acc) == pytest.approx((4 / 6 + 1) / 2)
    assert value(found.acc_real) == pytest.approx((3 / 4 + 1) / 2)
    assert value(found.acc_fake) == pytest.approx((1 / 2 + 1) / 2)
    # Precision at each fake: 1 of 1, 2 of 4.
    assert value(found.ap) == pytest.approx(((1 + 2 / 4) / 2 + 1) / 2)


def test_false_positives_are_of_all_real_pictures(suite):
    assert value(estimate_suite(suite, 0).fpr) == pytest.approx(2 / 10)


def test_sets_have_what_their_classes_allow(suite):
    one, _, tiles, gone = estimate_suite(suite, 0).sets
    assert (one.name, one.real, one.fake) == ("one", 4, 2)
    assert [value(part) for part in (one.acc, one.acc_fake, one.fpr)] == pytest.approx([4 / 6, 1 / 2, 1 / 4])
    assert [value(part) for part in (tiles.acc, tiles.fpr)] == pytest.approx([4 / 5, 1 / 5])
    assert tiles.ap is tiles.acc_fake is None
    assert (gone.real, gone.fake, gone.acc, gone.ap, gone.acc_fake, gone.fpr) == (0, 0, None, None, None, None)


def test_a_logit_on_the_threshold_is_real(suite):
    one = estimate_suite(suite, 3).sets[0]
    assert (value(one.fpr), value(one.acc_fake)) == (0, 0.5)


def test_a_set_that_lost_a_class_leaves_the_means(suite):
    lost = [suite[0], scores("two", [], [1, -2]), *suite[2:]]
    found = estimate_suite(lost, 0)
    assert value(found.acc) == pytest.approx(4 / 6)
    assert (value(found.sets[1].acc_fake), found.sets[1].fpr) == (0.5, None)


def test_nothing_to_judge_has_no_figures(suite):
    found = estimate_suite(suite[3:], 0)
    assert found.acc is found.acc_real is found.acc_fake is found.ap is found.fpr is None


def test_json_has_per_cent_and_null(suite):
    result = ConditionResult(
        condition=encode_jpeg(90), pictures=15, reasons={"too small": 2, "no such file": 1},
        figures=estimate_suite(suite, 0),
    )  # fmt: skip
    values = Envelope(engine="x", suites=("mine", "other"), conditions=(result,)).as_dict()
    assert (values["engine"], values["suite"]) == ("x", "mine, other")
    assert find_misfits(values, EnvelopeValues) == []
    assert values["encoders"]["pillow"]
    (condition,) = values["conditions"]
    assert (condition["name"], condition["pictures"], condition["skipped"]) == ("jpeg 90", 15, 3)
    assert condition["reasons"] == [{"reason": "too small", "pictures": 2}, {"reason": "no such file", "pictures": 1}]
    assert condition["fpr"]["value"] == pytest.approx(20)
    assert condition["sets"][2]["ap"] is None
