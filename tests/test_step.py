import dataclasses
import math
import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lfm_deploy.network.checkpoint import read_checkpoint, write_checkpoint
from lfm_deploy.network.model import LFM, normalise
from training.recipe import TrainingRecipe
from training.stages import PooledNorm
from training.step import Stepper, learning_rate_at

RECIPE = TrainingRecipe(
    name="tiny", model={"widths": [4, 8], "projection": 4, "k": 4}, crop=32, learning_rate=1e-2, batch=8
)
CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
LABELS = np.tile([0, 1], 4).astype(np.int64)


def changed(**changes):
    return dataclasses.replace(RECIPE, **changes)


def run(recipe, steps=4):
    stepper = Stepper(recipe, CPU)
    return stepper, [stepper.take(IMAGES, LABELS, recipe.learning_rate)[0] for _ in range(steps)]


@pytest.mark.parametrize("schedule", ["steps", "linear"])
def test_the_learning_rate_is_that_of_pytorchs_schedulers(schedule):
    recipe = changed(schedule=schedule, epochs=25, decay_epochs=10)
    steps = 3
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=recipe.learning_rate)
    if schedule == "steps":
        theirs = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10 * steps, gamma=0.9)
    else:
        theirs = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=25 * steps)
    for done in range(25 * steps):
        # Theirs multiplies step by step, so its rounding errors add up over 75 steps.
        assert learning_rate_at(recipe, done, steps) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.filterwarnings("ignore")  # the compiler warns of its own parts, and must not fail of it
@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_step_is_the_same_step():
    one_stage = RECIPE.model | {"widths": [4]}  # has each kind of kernel, and the compiler takes seconds for each
    _, losses = run(changed(rbld=True, model=one_stage))
    stepper, compiled = run(changed(rbld=True, model=one_stage, compile=True))
    assert isinstance(stepper._heads, torch._dynamo.OptimizedModule)
    # Rounding in another order; four steps of Adam do not let it grow further.
    assert compiled == pytest.approx(losses, rel=1e-4)
    assert not any(isinstance(part, PooledNorm) for part in stepper.model.modules())


def test_a_step_is_that_of_plain_pytorch():
    recipe = changed(rbld=False, rks_weight=0)
    stepper = Stepper(recipe, CPU)
    plain = LFM(recipe.model_config())
    plain.load_state_dict(stepper.model.state_dict())
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-2, betas=(0.9, 0.999))
    x, targets = normalise(torch.from_numpy(IMAGES)), torch.from_numpy(LABELS).float()
    for _ in range(3):
        logits = plain(x)
        loss = F.binary_cross_entropy_with_logits(logits, targets)
        lost, right = stepper.take(IMAGES, LABELS, 1e-2)
        # Rounding in another order; three steps of Adam do not let it grow further.
        assert lost == pytest.approx(loss.item(), rel=1e-5)
        assert right == int(((logits > 0) == (targets > 0)).sum())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert isinstance(stepper.model.snet.layer1[1], PooledNorm)
    for name, value in plain.state_dict().items():
        if not (name.endswith("0.bias") or "running_mean" in name):  # idle biases, and means that contain them
            torch.testing.assert_close(stepper.model.state_dict()[name], value, rtol=1e-3, atol=1e-5)


def test_the_loss_has_both_heads():
    whole = Stepper(changed(rks_weight=0.5), CPU).take(IMAGES, LABELS, 0)[0]
    alone = Stepper(changed(rks_weight=0), CPU).take(IMAGES, LABELS, 0)[0]
    twice = Stepper(changed(rks_weight=1.0), CPU).take(IMAGES, LABELS, 0)[0]
    assert whole > alone
    assert whole - alone == pytest.approx((twice - alone) / 2, rel=1e-4)  # float32 losses around 1


def test_the_same_recipe_gives_the_same_weights_and_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    (first, losses), (second, again), (_, others) = run(RECIPE), run(RECIPE), run(changed(seed=1))
    assert losses == again != others
    assert all(torch.equal(one, second.model.state_dict()[name]) for name, one in first.model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_state_is_gone_on_with_bit_for_bit():
    whole, losses = run(RECIPE, steps=5)
    first, _ = run(RECIPE, steps=2)
    second = Stepper(RECIPE, CPU)
    second.load_state(first.state())
    assert [second.take(IMAGES, LABELS, 1e-2)[0] for _ in range(3)] == losses[2:]
    assert all(torch.equal(one, second.model.state_dict()[name]) for name, one in whole.model.state_dict().items())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_learns_the_same_up_to_its_precision(precision):
    _, expected = run(RECIPE)
    stepper, losses = run(changed(precision=precision))
    # bfloat16 has 8 bits: logits of size 1 are off by some hundredths, and so are their losses.
    assert losses == pytest.approx(expected, abs=0.05)
    assert all(value.dtype in (torch.float32, torch.int64) for value in stepper.model.state_dict().values())


def test_channels_last_learns_the_same():
    _, expected = run(RECIPE)
    stepper, losses = run(changed(channels_last=True))
    assert stepper.model.snet.layer1[0].weight.is_contiguous(memory_format=torch.channels_last)
    # Other kernels, which round in another order.
    assert losses == pytest.approx(expected, rel=1e-4)


def test_scores_are_those_of_the_checkpoint_that_is_written(tmp_path):
    stepper, _ = run(RECIPE)
    scores = stepper.score(IMAGES)
    assert stepper.model.training
    write_checkpoint(tmp_path / "ours.pth", stepper.model)
    deployed = read_checkpoint(tmp_path / "ours.pth").build_model()
    with torch.inference_mode():
        expected = deployed(normalise(torch.from_numpy(IMAGES))).numpy()
    # The same operations, two of them in another order that changes no value.
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-6)


def test_a_loss_that_is_no_number_leaves_the_weights_as_they_were():
    stepper, _ = run(RECIPE, steps=1)
    stepper.model.fc.bias.data.fill_(math.inf)
    before = {name: value.clone() for name, value in stepper.model.named_parameters()}
    assert not math.isfinite(stepper.take(IMAGES, LABELS, 1e-2)[0])
    assert all(torch.equal(value, before[name]) for name, value in stepper.model.named_parameters())
