"""States that PyTorch would take, and that are not those of the network: each is refused, and nothing is changed."""

import copy

import numpy as np
import pytest
import torch

from training.recipe import TrainingRecipe
from training.step import Stepper

RECIPE = TrainingRecipe(
    name="tiny", model={"widths": [4, 8], "projection": 4, "k": 4}, resize=40, crop=32, batch=2, epochs=1
)


@pytest.fixture(scope="module")
def state():
    stepper = Stepper(RECIPE, torch.device("cpu"))
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    stepper.take(images, np.array([0, 1]), 1e-3)
    return stepper.state()


def set_weight(state, value):
    state["model"]["fc.weight"] = value


def set_moment(state, name, value):
    state["optimizer"]["state"][0][name] = value


CHANGES = {
    "lacks model": lambda state: state.pop("model"),
    "steps_done is": lambda state: state.update(steps_done="1"),
    "steps_done is -": lambda state: state.update(steps_done=-1),
    "other weights": lambda state: state["model"].pop("fc.weight"),
    "model has": lambda state: state.update(model=None),
    "no plain tensor": lambda state: set_weight(state, 5),
    "complex64, expected": lambda state: set_weight(state, state["model"]["fc.weight"].to(torch.complex64)),
    r"fc.weight is \(1, 15\)": lambda state: set_weight(state, state["model"]["fc.weight"][:, :-1]),
    "fc.weight has NaN": lambda state: set_weight(state, state["model"]["fc.weight"] * float("nan")),
    "lacks its state": lambda state: state.update(optimizer={}),
    "other settings": lambda state: state["optimizer"]["param_groups"][0].update(betas=(0.5, 0.5)),
    "moments of other": lambda state: state["optimizer"]["state"].update({99: {}}),
    "lacks moments": lambda state: state["optimizer"]["state"].update({0: {}}),
    "exp_avg of weight 0 is": lambda state: set_moment(state, "exp_avg", torch.zeros(3)),
    "exp_avg_sq of weight 0 is negative": lambda state: state["optimizer"]["state"][0]["exp_avg_sq"].sub_(1e9),
    "exp_avg_sq of weight 0 has NaN": lambda state: state["optimizer"]["state"][0]["exp_avg_sq"].fill_(float("nan")),
    "step of weight 0 is 7": lambda state: set_moment(state, "step", torch.tensor(7.0)),
    "scaler is of another": lambda state: state.update(scaler={"scale": 2.0}),
}


@pytest.mark.parametrize("message", CHANGES)
def test_a_state_of_another_network_or_of_no_numbers_is_refused_whole(state, message):
    stepper = Stepper(RECIPE, torch.device("cpu"))
    before = copy.deepcopy(stepper.state())
    changed = copy.deepcopy(state)
    CHANGES[message](changed)
    with pytest.raises(ValueError, match=message):
        stepper.load_state(changed)
    after = stepper.state()
    assert all(torch.equal(after["model"][name], before["model"][name]) for name in before["model"])
    assert after["steps_done"] == 0


def test_the_whole_state_is_taken(state):
    stepper = Stepper(RECIPE, torch.device("cpu"))
    stepper.load_state(copy.deepcopy(state))
    assert stepper.steps_done == 1
    assert torch.equal(stepper.state()["model"]["fc.weight"], state["model"]["fc.weight"])


@pytest.mark.parametrize("value", [float("nan"), -1.0, 0.0, "2", True])
def test_a_scaler_has_numbers(value):
    recipe = TrainingRecipe(
        name="tiny", model={"widths": [4, 8], "projection": 4, "k": 4}, resize=40, crop=32, batch=2, precision="fp16"
    )
    stepper = Stepper(recipe, torch.device("cpu"))
    state = copy.deepcopy(stepper.state())
    assert state["scaler"], "a scaler of FP16 has values on a CPU as well"
    state["scaler"]["scale"] = value
    with pytest.raises(ValueError, match="scaler scale is"):
        Stepper(recipe, torch.device("cpu")).load_state(state)
