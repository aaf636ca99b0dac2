import json
import math

import pytest
from typed_values import find_misfits

from calib.findings_schema import Findings
from calib.flip_estimate import FlipEstimate
from calib.layer_choice import LayerChoice, Sensitivity, Trial
from lfm_deploy.quantisation import Budget, Recipe

ESTIMATE = FlipEstimate(
    pictures=64, sources=4, flips=0.2, flips_low=0.1, flips_high=0.3, worst=0.25, worst_source="a", acc=-0.01, ap=None,
    seen_flips=1, mean_error=0.3,
)  # fmt: skip
BROKEN = FlipEstimate(
    pictures=64, sources=4, flips=math.nan, flips_low=math.nan, flips_high=math.nan, worst=math.nan, worst_source="a",
    acc=math.nan, ap=None, seen_flips=30, mean_error=math.nan,
)  # fmt: skip


def choose(**changes):
    values = {
        "recipe": Recipe.TENSORRT,
        "budget": Budget(),
        "layers_asked": "search",
        "base": ESTIMATE,
        "sensitivities": {name: Sensitivity(only=ESTIMATE, without=BROKEN) for name in ("conv1", "conv2")},
        "trials": (
            Trial(layers=("conv1", "conv2"), int8_share=1.0, chosen_by=BROKEN, judged_by=None, broken=("flips",)),
            Trial(layers=("conv2",), int8_share=0.75, chosen_by=ESTIMATE, judged_by=ESTIMATE, broken=()),
        ),
        "layers": ("conv2",),
        "int8_share": 0.75,
        "within_budget": True,
        "reasons": {"conv1": "with it: flips", "conv2": "in the largest choice that holds the budget"},
        "multiply_adds": {"conv1": 1, "conv2": 3},
        "at_best": [],
        "snr_db": {"conv1": math.inf, "conv2": 31.5},
        "logits": {"reference": [1.5], "int8": [1.25], "labels": [1]},
        "model": None,
    }
    return LayerChoice(**values | changes)


def test_json_says_of_every_layer_what_it_is_and_why():
    values = choose().as_dict()
    assert find_misfits(values, Findings) == []
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert {name: layer["precision"] for name, layer in values["layers"].items()} == {"conv1": "fp16", "conv2": "int8"}
    assert values["layers"]["conv1"]["why"] == "with it: flips"
    assert values["layers"]["conv1"]["without"]["flips"] is None  # not a number
    assert [trial["judged_by"] is None for trial in values["trials"]] == [True, False]


@pytest.mark.parametrize(("snr_db", "expected"), [(31.5, 31.5), (math.inf, None)])
def test_an_snr_without_any_noise_is_null(snr_db, expected):
    assert choose(snr_db={"conv1": 20.0, "conv2": snr_db}).as_dict()["layers"]["conv2"]["snr_db"] == expected


def test_without_a_graph_there_is_neither_an_snr_nor_a_pair_of_logits():
    values = choose(layers=(), within_budget=False, snr_db={}, logits=None).as_dict()
    assert find_misfits(values, Findings) == []
    assert all("snr_db" not in layer for layer in values["layers"].values())
    assert values["logits"] is None
