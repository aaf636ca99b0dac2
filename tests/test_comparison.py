from pathlib import Path

import numpy as np
import pytest

from lfm_deploy.artifacts import Precision
from lfm_deploy.comparison import Scores, compare_suite, judge_suite
from lfm_deploy.quantisation import Budget, Quantisation, Recipe

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
REFERENCE = np.array([-4, -3, -2, 0.5, -0.5, 2, 3, 4], dtype=np.float32)


def scores(logits, labels=LABELS):
    paths = tuple(Path(f"{index}.png") for index in range(len(labels)))
    return Scores(paths=paths, labels=np.asarray(labels), logits=np.asarray(logits, dtype=np.float32))


def compare(logits, reference=REFERENCE):
    return compare_suite("suite", [("set", scores(logits))], [("set", scores(reference))], 0.0)


def test_metrics_of_one_set_by_hand():
    (part,) = compare(REFERENCE).sets
    assert (part.real, part.fake, part.acc, part.acc_real, part.acc_fake) == (4, 4, 0.75, 0.75, 0.75)
    # Ranked 4, 3, 2 (fake), 0.5 (real), -0.5 (fake): precision at each fake is 1, 1, 1 and 4/5.
    assert part.ap == pytest.approx((1 + 1 + 1 + 4 / 5) / 4, abs=1e-12)  # float64 sums of four terms
    assert (part.flips, part.max_error) == ((), 0)


def test_flips_are_found_in_both_directions_and_named():
    logits = REFERENCE.copy()
    logits[3], logits[5] = -0.1, -0.1
    result = compare(logits)
    assert result.flips == (Path("3.png"), Path("5.png"))
    assert result.max_error == pytest.approx(2.1, abs=1e-6)  # one float32 rounding
    assert result.mean_error == pytest.approx((0.6 + 2.1) / 8, abs=1e-6)


def test_a_logit_on_the_threshold_is_real():
    # The contract: above the threshold is fake.
    assert compare(np.where(REFERENCE == 0.5, 0, REFERENCE)).flips == (Path("3.png"),)


def test_fp32_gates_on_any_flip():
    flipped = REFERENCE.copy()
    flipped[3] = -0.1
    good, bad = compare(REFERENCE), compare(flipped)
    assert all(gate.passed for gate in judge_suite(Precision.FP32, good, good))
    assert not all(gate.passed for gate in judge_suite(Precision.FP32, bad, good))


def test_fp16_gates_on_points_of_acc_and_ap():
    labels = np.tile([0, 1], 1000)
    reference = np.where(labels, 2.0, -2.0) + np.linspace(-1, 1, 2000)

    def with_flips(count):
        logits = reference.copy()
        logits[:count] *= -1
        return compare_suite("suite", [("set", scores(logits, labels))], [("set", scores(reference, labels))], 0.0)

    clean = with_flips(0)
    named = {gate.name: gate.passed for gate in judge_suite(Precision.FP16, with_flips(2), clean)}
    assert named["|ΔACC| in points"]  # 2 of 2000 are 0.1 points
    named = {gate.name: gate.passed for gate in judge_suite(Precision.FP16, with_flips(3), clean)}
    assert not named["|ΔACC| in points"]


def test_ap_is_gated_apart_from_accuracy():
    shuffled = REFERENCE.copy()
    shuffled[[0, 4]] = -0.4, -3.9  # no decision changes, the ranking does
    gates = {gate.name: gate for gate in judge_suite(Precision.FP16, compare(shuffled), compare(REFERENCE))}
    assert gates["|ΔACC| in points"].passed
    assert not gates["|ΔAP| in points"].passed


def quantised(*, within_budget=True, **budget):
    return Quantisation(
        recipe=Recipe.CPU,
        layers={"conv1": "int8"},
        int8_share=1.0,
        ranges_sha256="0" * 64,
        budget=Budget(**budget),
        layers_asked="search",
        within_budget=within_budget,
    )


@pytest.mark.parametrize("precision", list(Precision))
def test_a_logit_that_is_no_number_fails_whatever_the_precision(precision):
    broken = REFERENCE.copy()
    broken[0] = np.nan  # decides "real", as the reference does, so that nothing else would notice
    made = quantised(acc=100, ap=100, flips=100) if precision is Precision.INT8 else None
    assert not all(gate.passed for gate in judge_suite(precision, compare(broken), compare(REFERENCE), made))


def failed(logits, made):
    gates = judge_suite(Precision.INT8, compare(logits), compare(REFERENCE), made)
    return [gate.name for gate in gates if not gate.passed]


def test_int8_is_held_to_the_budget_that_it_was_built_with():
    flipped = REFERENCE.copy()
    flipped[3] = -0.1  # one of 8 decisions, for the better: 12.5 % flips, and as many points of ACC
    assert failed(flipped, quantised(flips=12.5, acc=12.5, ap=100)) == []
    assert failed(flipped, quantised(flips=12.4, acc=12.5, ap=100)) == ["flipped decisions in %"]
    assert failed(flipped, quantised(flips=12.5, acc=12.4, ap=100)) == ["|ΔACC| in points"]
    ranked = REFERENCE.copy()
    ranked[[0, 4]] = -0.4, -3.9  # no decision changes, the ranking does
    assert failed(ranked, quantised()) == ["|ΔAP| in points"]


def test_int8_that_was_built_outside_its_budget_fails_whatever_it_does():
    assert failed(REFERENCE, quantised()) == []
    assert failed(REFERENCE, quantised(within_budget=False)) == ["built outside its budget (--layers all)"]


def test_means_are_over_sets_with_both_classes():
    one_class = scores([-1, 1], labels=[0, 0])
    pairs = [("both", scores(REFERENCE)), ("real only", one_class)]
    result = compare_suite("suite", pairs, pairs, 0.0)
    assert result.acc == 0.75
    assert result.sets[1].ap is None
    assert (result.sets[1].acc, result.sets[1].acc_fake) == (0.5, None)
    assert result.pictures == 10


@pytest.mark.parametrize(("precision", "share"), [(Precision.FP32, 2e-4), (Precision.FP16, 2e-2)])
def test_a_logit_that_moves_too_far_fails_although_no_decision_changes(precision, share):
    spread = float(np.std(REFERENCE, dtype=np.float64))
    for factor, holds in ((0.9, True), (1.1, False)):
        moved = REFERENCE.copy()
        moved[7] += factor * share * spread
        assert all(gate.passed for gate in judge_suite(precision, compare(moved), compare(REFERENCE))) is holds
