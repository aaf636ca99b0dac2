"""The plain training loop: Adam on binary cross-entropy."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import ConfigError, DeployError, ShapeError
from lfm_deploy.model import LFM, normalise


class TrainingError(DeployError):
    """Training cannot go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How to train. ``learning_rate`` falls linearly to zero over all steps."""

    epochs: int = 12
    batch: int = 32
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that train nothing."""
        if self.epochs < 1 or self.batch < 2 or not self.learning_rate > 0:
            raise ConfigError(f"need epochs >= 1, batch >= 2 and a learning rate above 0, got {self}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint's recipe."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochResult:
    """One epoch: number from 1, mean loss, share of right decisions in training, pictures per second."""

    epoch: int
    loss: float
    accuracy: float
    images_per_second: float


def train(
    model_config: ModelConfig,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    config: TrainConfig,
    on_epoch: Callable[[EpochResult], None] = lambda _: None,
) -> LFM:
    """Train a network from scratch; on a CPU the same seed gives the same weights.

    Args:
        model_config: the architecture.
        images: uint8 ``(N, H, W, 3)``.
        labels: ``(N,)``; 0 is real, 1 is fake.
        config: the recipe.
        on_epoch: called after each epoch.

    Returns:
        The network in evaluation mode.

    Raises:
        ShapeError: there are not as many labels as images, or fewer than a batch.
        TrainingError: the loss is no longer a number.
    """
    if len(images) != len(labels) or len(images) < config.batch:
        raise ShapeError(f"got {len(images)} images and {len(labels)} labels, expected equal numbers >= {config.batch}")
    pixels, targets = torch.from_numpy(images), torch.from_numpy(labels).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = LFM(model_config)
    generator = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    steps = len(images) // config.batch  # the rest of an epoch is left out: a batch of one breaks batch statistics
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=config.epochs * steps)
    model.train()
    for epoch in range(1, config.epochs + 1):
        started = time.perf_counter()
        order = torch.randperm(len(images), generator=generator)
        loss_sum, right = 0.0, 0
        for step in range(steps):
            chosen = order[step * config.batch : (step + 1) * config.batch]
            loss, correct = _step(model, optimizer, _flipped(pixels[chosen], generator), targets[chosen])
            if not np.isfinite(loss):
                raise TrainingError(f"the loss is {loss} in epoch {epoch}, step {step + 1}; lower the learning rate")
            schedule.step()
            loss_sum, right = loss_sum + loss, right + correct
        seen = steps * config.batch
        seconds = time.perf_counter() - started
        on_epoch(
            EpochResult(epoch=epoch, loss=loss_sum / steps, accuracy=right / seen, images_per_second=seen / seconds)
        )
    return model.eval()


def _flipped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each picture left to right with probability 1/2."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(2), images)


def _step(model: LFM, optimizer: torch.optim.Optimizer, images: Tensor, targets: Tensor) -> tuple[float, int]:
    """Loss of one batch, and how many decisions were right; the weights are updated."""
    logits = model(normalise(images))
    loss = F.binary_cross_entropy_with_logits(logits, targets)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    optimizer.step()
    return loss.item(), int(((logits > 0) == (targets > 0.5)).sum())
