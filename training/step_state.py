"""What a training state must be before a run goes on from it: that of this network, with numbers in it."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_MOMENTS = {"exp_avg", "exp_avg_sq", "step"}


def check_step_state(found: object, own: dict[str, Any]) -> None:
    """Compare a state with that of the network that it is meant for.

    PyTorch compares shapes of weights alone: it takes moments of any shape, other hyper-parameters, and NaN.

    Args:
        found: state that was read from a file.
        own: state of the network and optimiser as they are now, from ``Stepper.state``.

    Raises:
        ValueError: something is missing, of another type or shape, or no number; the message says what.
    """
    if not isinstance(found, dict) or set(found) != set(own):
        raise ValueError("it lacks model, optimizer, scaler or steps_done")
    done = found["steps_done"]
    if type(done) is not int or done < 0:
        raise ValueError(f"steps_done is {done!r}")
    _check_alike("model", found["model"], own["model"])
    _check_optimizer(found["optimizer"], own["optimizer"], list(_learning(own)), done)
    _check_scaler(found["scaler"], own["scaler"])


def _learning(own: dict[str, Any]) -> list[int]:
    return [index for group in own["optimizer"]["param_groups"] for index in group["params"]]


def _check_alike(what: str, found: object, own: dict[str, Tensor]) -> None:
    if not isinstance(found, dict) or set(found) != set(own):
        raise ValueError(f"{what} has other weights than this network")
    for name, expected in own.items():
        _check_tensor(f"{what} {name}", found[name], expected.shape, expected.dtype)


def _check_tensor(what: str, found: object, shape: torch.Size, dtype: torch.dtype) -> None:
    if not isinstance(found, Tensor) or found.is_meta or found.layout is not torch.strided:
        raise ValueError(f"{what} is no plain tensor")
    if (found.shape, found.dtype) != (shape, dtype):
        raise ValueError(f"{what} is {tuple(found.shape)} {found.dtype}, expected {tuple(shape)} {dtype}")
    if not bool(torch.isfinite(found).all()):
        raise ValueError(f"{what} has NaN or infinite values")


def _check_optimizer(found: Any, own: dict[str, Any], learning: list[int], done: int) -> None:
    if not isinstance(found, dict) or set(found) != set(own) or not isinstance(found["state"], dict):
        raise ValueError("optimizer lacks its state or groups")
    if _without_rate(found["param_groups"]) != _without_rate(own["param_groups"]):
        raise ValueError("optimizer has other settings than this version")
    if not set(found["state"]) <= set(learning):
        raise ValueError("optimizer has moments of other weights")
    for index, moments in found["state"].items():
        if not isinstance(moments, dict) or set(moments) != _MOMENTS:
            raise ValueError(f"optimizer lacks moments of weight {index}")
        _check_tensor(f"step of weight {index}", moments["step"], torch.Size([]), torch.float32)
        if not 0 <= moments["step"].item() <= done:
            raise ValueError(f"step of weight {index} is {moments['step'].item():g}, of {done} steps")


def check_moments(found: dict[str, Any], weights: Sequence[Tensor]) -> None:
    """Compare the moments of an optimiser with the weights that they belong to.

    Args:
        found: state of the optimiser, checked by ``check_step_state``.
        weights: weights that learn, in the order of the optimiser.

    Raises:
        ValueError: a moment has another shape, or is no number; the message says which.
    """
    for index, moments in found["state"].items():
        weight = weights[index]
        for name in ("exp_avg", "exp_avg_sq"):
            _check_tensor(f"{name} of weight {index}", moments[name], weight.shape, weight.dtype)
        if bool((moments["exp_avg_sq"] < 0).any()):
            raise ValueError(f"exp_avg_sq of weight {index} is negative")


def _without_rate(groups: Any) -> Any:
    """Groups of parameters without the learning rate, which each step sets."""
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return None
    return [{key: value for key, value in group.items() if key != "lr"} for group in groups]


def _check_scaler(found: object, own: dict[str, Any]) -> None:
    if not isinstance(found, dict) or set(found) != set(own):
        raise ValueError("scaler is of another precision")
    for name, value in found.items():
        if type(value) not in (int, float) or not math.isfinite(value) or value < 0 or (name == "scale" and value == 0):
            raise ValueError(f"scaler {name} is {value!r}")
