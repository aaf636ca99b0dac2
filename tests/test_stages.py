import copy

import pytest
import torch
from torch import nn

from lfm_deploy.config import ModelConfig
from lfm_deploy.network.model import LFM
from training.stages import PooledNorm, freeze_idle_biases, fuse_stages

# Both orders of the same layers; the largest value of a window and ReLU commute.
TAILS = {"as published": (nn.ReLU, lambda: nn.MaxPool2d(2)), "ReLU last": (lambda: nn.MaxPool2d(2), nn.ReLU)}


def make_stage(tail="as published", gains=(1.0, 0.5, 2.0)):
    torch.manual_seed(0)
    stage = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), *(make() for make in TAILS[tail])).double()
    stage[1].weight.data = torch.tensor(gains, dtype=torch.float64)
    stage[1].bias.data.normal_()
    return nn.ModuleDict({"stage": stage})


def pass_through(holder, x):
    x = x.clone().requires_grad_()
    y = holder["stage"](x)
    torch.manual_seed(1)
    weight, bias = holder["stage"][1].weight, holder["stage"][1].bias
    gradients = torch.autograd.grad((y * torch.randn_like(y)).sum(), (x, holder["stage"][0].weight, weight, bias))
    return y, *gradients


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("gains", [(1.0, 0.5, 2.0), (1.0, -0.5, -2.0)])
def test_values_gradients_and_statistics_are_those_of_the_plain_layers(tail, gains):
    plain = make_stage(tail, gains)
    fused = copy.deepcopy(plain)
    fuse_stages(fused)
    assert isinstance(fused["stage"][1], PooledNorm)
    x = torch.randn(3, 2, 10, 11, dtype=torch.float64)
    for _ in range(2):
        for mine, its in zip(pass_through(fused, x), pass_through(plain, x), strict=True):
            # Sums of 270 terms in float64, in another order.
            torch.testing.assert_close(mine, its, rtol=1e-9, atol=1e-11)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(fused.state_dict()[name], value, rtol=1e-12, atol=1e-13)
    with torch.no_grad():
        torch.testing.assert_close(fused.eval()["stage"](x), plain.eval()["stage"](x), rtol=1e-12, atol=1e-13)


def test_the_gradient_is_that_of_finite_differences():
    norm = PooledNorm(2).double()
    norm.bias.data.fill_(0.3)
    x = torch.randn(2, 2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    assert torch.autograd.gradcheck(norm, x)


def test_a_network_keeps_its_names_and_its_last_stage():
    model = LFM(ModelConfig(widths=(4, 4, 8), projection=4, k=4))
    before = list(model.state_dict())
    fuse_stages(model)
    assert [type(stage[1]) for stage in model.snet] == [PooledNorm, PooledNorm, nn.BatchNorm2d]
    assert list(model.state_dict()) == before


def test_stages_of_another_kind_are_left_alone():
    other = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(3))
    fuse_stages(nn.ModuleList([other]))
    assert type(other[1]) is nn.BatchNorm2d


def test_a_bias_that_batch_normalisation_cancels_has_no_gradient_to_speak_of():
    holder = make_stage()
    stage = holder["stage"]
    y = stage(torch.randn(3, 2, 10, 11, dtype=torch.float64))
    (gradient,) = torch.autograd.grad((y * torch.randn_like(y)).sum(), stage[0].bias, retain_graph=True)
    (of_weight,) = torch.autograd.grad((y * torch.randn_like(y)).sum(), stage[0].weight)
    # It is zero in real numbers; what is left is rounding in float64.
    assert gradient.abs().max() < 1e-12 * of_weight.abs().max()
    freeze_idle_biases(holder)
    assert [name for name, weight in holder.named_parameters() if not weight.requires_grad] == ["stage.0.bias"]
