import math
from pathlib import Path

import numpy as np
import pytest

from lfm_deploy.artifacts import Precision
from lfm_deploy.errors import MetricError
from lfm_deploy.quantisation import Budget, Quantisation, Recipe
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.verification.comparison import compare_suite, measure_suite
from lfm_deploy.verification.gates import CROSSED, judge_suite

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
REFERENCE = np.array([-4, -3, -2, 0.5, -0.5, 2, 3, 4], dtype=np.float32)
ROUNDS = 400


def scores(logits, labels):
    paths = tuple(Path(f"{index}.png") for index in range(len(labels)))
    return [("set", Scores(paths=paths, labels=np.asarray(labels), logits=np.asarray(logits, dtype=np.float32)))]


def judge(precision, logits, reference=REFERENCE, labels=LABELS, made=None, limits=None, band=None):
    """Gates by name."""
    expected = measure_suite("suite", scores(reference, labels), 0.0, uncertain_above=band, rounds=ROUNDS)
    result = compare_suite("suite", scores(logits, labels), expected, 0.0)
    gates = judge_suite(precision, result, expected.spread, made, limits=limits)
    assert len({gate.name for gate in gates}) == len(gates)
    return {gate.name: gate for gate in gates}


def outcomes(*args, **options):
    return {name: str(gate.outcome) for name, gate in judge(*args, **options).items()}


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


def suite_of(pictures, wrong=0.1):
    """Labels in turn, and logits of which one in ten is on the wrong side; none is near the threshold."""
    labels = np.arange(pictures) % 2
    logits = np.where(labels, 2.0, -2.0) + np.linspace(-1, 1, pictures)
    logits[np.arange(pictures) % round(2 / wrong) < 2] *= -1
    return labels, logits


def flip(logits, indices):
    flipped = logits.copy()
    flipped[indices] *= -1
    return flipped


def test_fp32_gates_on_any_flip_of_the_pictures_that_were_seen():
    flipped = REFERENCE.copy()
    flipped[3] = -0.1
    assert set(outcomes(Precision.FP32, REFERENCE).values()) == {"holds"}
    gates = judge(Precision.FP32, flipped)
    assert gates["flipped decisions"].outcome == "fails"
    assert (gates["flipped decisions"].low, gates["flipped decisions"].need) == (1, None)
    # A comparison of eight pictures is enough for that: the gate is about them.
    assert all(gate.outcome != "undecided" for gate in gates.values())


def test_fp16_holds_where_enough_pictures_show_that_it_moves_little():
    labels, reference = suite_of(3688)  # 1 - 0.025^(1/n) is at most 0.001 from 3,688 on
    assert set(outcomes(Precision.FP16, reference, reference, labels).values()) == {"holds"}


def test_fp16_is_undecided_where_pictures_are_too_few_to_show_it():
    labels, reference = suite_of(3687)
    gate = judge(Precision.FP16, reference, reference, labels)["|ΔACC| in points"]
    assert (gate.outcome, gate.value, gate.need) == ("undecided", 0, 3688)
    assert gate.text == (
        "|ΔACC| in points is 0 (95 %: 0 to 0.1), allowed 0.1: undecided, need ≥ 3,688 pictures like these (have 3,687)"
    )


def test_one_flip_of_4000_says_no_more_than_so_many_pictures_can_resolve():
    labels, reference = suite_of(4000)
    gate = judge(Precision.FP16, flip(reference, [23]), reference, labels)["|ΔACC| in points"]
    # The rounds alone would say 0 to 0.075.
    assert gate.outcome == "undecided"
    assert gate.high == pytest.approx(0.025 + 100 * (1 - 0.025 ** (1 / 4000)), abs=1e-8)  # rounded to 9 digits


def test_fp16_fails_where_even_the_better_end_is_beyond_the_limit():
    labels, reference = suite_of(4000)
    spoilt = flip(reference, np.arange(22, 222))
    gate = judge(Precision.FP16, spoilt, reference, labels)["|ΔACC| in points"]
    assert gate.outcome == "fails"
    assert gate.low > 0.1


def test_one_picture_beyond_the_limit_is_no_failure_yet():
    # 8 pictures: one more decision is right, and the point of 12.5 says nothing that the interval confirms.
    flipped = REFERENCE.copy()
    flipped[3] = -0.1
    gate = judge(Precision.FP16, flipped)["|ΔACC| in points"]
    assert (gate.value, gate.outcome) == (12.5, "undecided")


def test_ap_is_gated_apart_from_accuracy():
    labels, reference = suite_of(4000)
    shuffled = reference.copy()
    # No decision changes, the ranking does: real pictures on the wrong side go above all fakes.
    shuffled[(labels == 0) & (reference > 0)] += 10
    gates = judge(Precision.FP16, shuffled, reference, labels)
    assert gates["|ΔACC| in points"].outcome == "holds"
    assert gates["|ΔAP| in points"].outcome == "fails"


def test_ap_that_never_moves_is_held_to_what_pictures_can_resolve():
    labels, reference = suite_of(3687)
    gates = judge(Precision.FP16, reference, reference, labels)
    assert gates["|ΔAP| in points"].outcome == "undecided"
    # One real picture below a fake and one above it trade places: AP moves in some rounds, and by very little.
    moved = reference.copy()
    moved[20:24] += np.float32(0.002)
    gates = judge(Precision.FP16, moved, reference, labels)
    assert 0 < gates["|ΔAP| in points"].high < 0.1
    assert gates["|ΔAP| in points"].outcome == "holds"


def test_bf16_is_held_to_decisions_too():
    labels, reference = suite_of(8000)
    assert set(outcomes(Precision.BF16, reference, reference, labels).values()) == {"holds"}
    flipped = flip(reference, np.arange(0, 8000, 200))  # 0.5 %
    assert outcomes(Precision.BF16, flipped, reference, labels)["flipped decisions in %"] == "fails"
    assert "flipped decisions in %" not in outcomes(Precision.FP16, flipped, reference, labels)
    wide = outcomes(Precision.BF16, flipped, reference, labels, limits=Budget(acc=9, ap=9, flips=9))
    assert wide["flipped decisions in %"] == "holds"


@pytest.mark.parametrize("precision", list(Precision))
def test_a_logit_that_is_no_number_fails_whatever_the_precision(precision):
    broken = REFERENCE.copy()
    broken[0] = np.nan  # decides "real", as the reference does, so that no flip shows it
    made = quantised(acc=100, ap=100, flips=100) if precision is Precision.INT8 else None
    gates = judge(precision, broken, made=made, limits=Budget(acc=100, ap=100, flips=100))
    assert gates["test sets with a logit that is no number"].outcome == "fails"


def test_int8_is_held_to_the_budget_that_it_was_built_with():
    labels, reference = suite_of(4000)
    flipped = flip(reference, np.arange(23, 103, 2))  # 40 of 4000 are flipped, most of them for the worse

    def beyond(outcome, **budget):
        found = outcomes(Precision.INT8, flipped, reference, labels, quantised(**budget))
        return [name for name, one in found.items() if one == outcome]

    assert beyond("holds", flips=2, acc=2, ap=3) == list(judge(Precision.INT8, flipped, reference, labels, quantised()))
    assert beyond("fails", flips=0.5, acc=2, ap=3) == ["flipped decisions in %"]
    assert beyond("fails", flips=2, acc=0.3, ap=3) == ["|ΔACC| in points"]
    assert beyond("fails", flips=2, acc=2, ap=0.01) == ["|ΔAP| in points"]
    assert beyond("undecided", flips=1.1, acc=2, ap=3) == ["flipped decisions in %"]


def test_int8_that_was_built_outside_its_budget_fails_whatever_it_does():
    labels, reference = suite_of(4000)
    found = outcomes(Precision.INT8, reference, reference, labels, quantised(within_budget=False))
    assert [name for name, outcome in found.items() if outcome == "fails"] == [
        "built outside its budget (--layers all)"
    ]


def test_limits_replace_those_of_fp16_and_int8_and_leave_fp32_alone():
    labels, reference = suite_of(400)
    flipped = flip(reference, [23, 43])
    limits = Budget(acc=4, ap=4, flips=4)
    for precision, made in ((Precision.FP16, None), (Precision.INT8, quantised(flips=0.1, acc=0.1, ap=0.1))):
        gates = judge(precision, flipped, reference, labels, made, limits)
        assert {
            name: gates[name].limit for name in ("flipped decisions in %", "|ΔACC| in points", "|ΔAP| in points")
        } == {
            "flipped decisions in %": 4,
            "|ΔACC| in points": 4,
            "|ΔAP| in points": 4,
        }
        assert all(gate.outcome == "holds" for name, gate in gates.items() if "spread" not in name)
    assert judge(Precision.FP32, flipped, reference, labels, None, limits)["flipped decisions"].outcome == "fails"


def test_a_limit_of_zero_is_about_the_pictures_that_were_seen():
    labels, reference = suite_of(100)
    limits = Budget(acc=0, ap=0, flips=0)
    assert set(outcomes(Precision.FP16, reference, reference, labels, None, limits).values()) == {"holds"}
    found = outcomes(Precision.FP16, flip(reference, [23]), reference, labels, None, limits)
    assert found["flipped decisions in %"] == found["|ΔACC| in points"] == "fails"


@pytest.mark.parametrize(
    ("name", "flips", "limit", "outcome", "margin"),
    [
        # Exact intervals: the number itself decides.
        ("flipped decisions in %", 0, 1.8, "holds", 1),
        ("flipped decisions in %", 2, 1.8, "holds", 1),
        ("flipped decisions in %", 5, 1.8, "fails", 1),
        ("|ΔACC| in points", 0, 1.2, "holds", 1),
        # Of 400 rounds the 2.5 % quantile is uncertain by 7 % of the half-width, so the number by 14 %; twice that.
        ("|ΔACC| in points", 1, 1.2, "holds", 1.3),
        ("|ΔACC| in points", 5, 1.2, "fails", 1.3),
        ("|ΔAP| in points", 5, 0.8, "holds", 1.3),
        ("|ΔAP| in points", 12, 0.9, "fails", 1.3),
    ],
)
def test_the_pictures_that_are_needed_decide(name, flips, limit, outcome, margin):
    """The same pictures over and over, up to the number that is asked for: what was seen goes on."""
    labels, reference = suite_of(200)
    logits = flip(reference, np.arange(23, 23 + 2 * flips, 2))

    def judge_copies(copies):
        tiled = (np.tile(values, copies) for values in (logits, reference, labels))
        return judge(Precision.FP16, *tiled, limits=Budget(acc=limit, ap=limit, flips=limit))[name]

    gate = judge_copies(1)
    assert gate.outcome == "undecided"
    assert judge_copies(math.ceil(margin * gate.need / 200)).outcome == outcome
    # Half as many are too few: the number is no guess on the safe side.
    if gate.need > 400:
        assert judge_copies(gate.need // 400).outcome == "undecided"


def test_a_figure_on_its_limit_is_never_decided():
    labels, reference = suite_of(200)
    limits = Budget(acc=0.5, ap=100, flips=0.5)
    gates = judge(Precision.FP16, flip(reference, [23]), reference, labels, limits=limits)  # 1 of 200
    assert gates["|ΔACC| in points"].need is None
    assert "no number of pictures would decide it" in gates["|ΔACC| in points"].text


@pytest.mark.parametrize(("precision", "share"), [(Precision.FP32, 2e-4), (Precision.FP16, 2e-2)])
def test_a_logit_that_moves_too_far_fails_although_no_decision_changes(precision, share):
    spread = float(np.std(REFERENCE, dtype=np.float64))
    for factor, outcome in ((0.9, "holds"), (1.1, "fails")):
        moved = REFERENCE.copy()
        moved[7] += factor * share * spread
        assert outcomes(precision, moved)["largest |Δlogit| over the spread of PyTorch's logits"] == outcome


def test_an_engine_equal_to_a_constant_reference_moves_no_logit():
    constant = np.full(8, 1.5)
    name = "largest |Δlogit| over the spread of PyTorch's logits"
    assert outcomes(Precision.FP32, constant, constant)[name] == "holds"
    assert outcomes(Precision.FP32, constant + 1, constant)[name] == "fails"


def test_what_was_not_compared_cannot_be_judged():
    alone = measure_suite("suite", scores(REFERENCE, LABELS), 0.0, rounds=5)
    with pytest.raises(MetricError, match="no comparison with a reference"):
        judge_suite(Precision.FP32, alone, alone.spread)


def test_verdicts_that_cross_the_lower_end_of_a_band_are_limited_as_flips_are():
    labels, logits = suite_of(4000)
    near = np.flatnonzero(logits < 0)[:400]
    logits[near] = -3.05
    moved = logits.copy()
    moved[near] = -2.95
    made = quantised(acc=0.2, ap=0.15, flips=0.7)
    for precision, options in (
        (Precision.INT8, {"made": made}),
        (Precision.BF16, {}),
        (Precision.FP16, {"limits": Budget(acc=1, ap=1, flips=0.7)}),
        (Precision.FP32, {}),
    ):
        without = judge(precision, moved, logits, labels, **options)
        assert CROSSED not in without
        elsewhere = judge(precision, moved, logits, labels, band=-4.0, **options)
        assert (str(elsewhere[CROSSED].outcome), elsewhere[CROSSED].value) == ("holds", 0)
        there = judge(precision, moved, logits, labels, band=-3.0, **options)
        assert (str(there[CROSSED].outcome), there[CROSSED].value) == ("fails", 10)
        assert {name: gate for name, gate in there.items() if name != CROSSED} == without
    assert CROSSED not in judge(Precision.FP16, moved, logits, labels, band=-3.0)  # its flips are not limited either


def test_few_pictures_do_not_show_that_few_verdicts_cross():
    labels, logits = suite_of(100)
    gate = judge(Precision.INT8, logits, logits, labels, made=quantised(acc=5, ap=5, flips=0.7), band=-3.0)[CROSSED]
    assert (str(gate.outcome), gate.value, gate.need) == ("undecided", 0, 526)  # 1 - 0.025^(1/n) is below 0.7 % then
