"""One step of training: a batch of pixels goes in, updated weights and the loss come out."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from lfm_deploy.network.model import LFM, normalise
from training.distributed import Share, share_statistics
from training.heads import TrainingHeads
from training.recipe import TrainingRecipe
from training.stages import freeze_idle_biases, fuse_stages
from training.step_state import check_moments, check_step_state

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_WEIGHTS, _REGULARISERS = 2, 3  # purposes of seeds, beside those of training/batches.py


def learning_rate_at(recipe: TrainingRecipe, done: int, steps: int) -> float:
    """Learning rate of the step after ``done`` ones, with ``steps`` in an epoch."""
    if recipe.schedule == "linear":
        return recipe.learning_rate * (1 - done / (recipe.epochs * steps))
    return float(recipe.learning_rate * recipe.decay ** (done // steps // recipe.decay_epochs))


def derive_seed(*numbers: int) -> int:
    """A seed for PyTorch from several numbers; nearby ones give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Stepper:
    """A network in training with its optimiser. On a CPU the same steps give the same weights, bit for bit.

    Attributes:
        model: the network; its batch normalisation may be a faster or shared kind under the same names.
        steps_done: number of steps over all epochs; it seeds the regularisers, so that no state of a generator needs to
            be kept.
    """

    def __init__(self, recipe: TrainingRecipe, device: torch.device, share: Share | None = None) -> None:
        self.recipe, self.device, self.share = recipe, device, share or Share()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(_WEIGHTS, recipe.seed))
            self.model = LFM(recipe.model_config())
        freeze_idle_biases(self.model)
        plain = device.type == "cpu" and recipe.precision == "float32" and not recipe.compile
        if self.share.count > 1:
            share_statistics(self.model, device)
        elif plain:
            fuse_stages(self.model)
        self._format = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.model.to(device=device, memory_format=self._format).train()  # type: ignore[call-overload]
        self._generator = torch.Generator(device)
        self._heads = self._make_heads()
        self._learning = [weight for weight in self.model.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.Adam(self._learning, lr=recipe.learning_rate, fused=True)
        self._scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        self.steps_done = 0

    def _make_heads(self) -> nn.Module:
        heads: nn.Module = TrainingHeads(self.model, self.recipe, self.share, self._generator)
        if self.share.count > 1:
            devices = [self.device.index] if self.device.type == "cuda" else None
            heads = nn.parallel.DistributedDataParallel(heads, device_ids=devices)
        # Kept as a callable: a compiled module is one, whatever else it is.
        return torch.compile(heads) if self.recipe.compile else heads  # type: ignore[return-value]

    def take(self, images: NDArray[np.uint8], labels: NDArray[np.int64], learning_rate: float) -> tuple[float, int]:
        """Learn from one batch, or from this process's rows of it.

        Args:
            images: uint8 ``(N, S, S, 3)``.
            labels: integers ``(N,)``; 0 is real, 1 is fake.
            learning_rate: learning rate of this step.

        Returns:
            Mean loss of these rows before the update, and how many decisions were right. A loss that is not finite
            leaves the weights as they were, in one process.
        """
        x = normalise(torch.from_numpy(images).to(self.device)).contiguous(memory_format=self._format)
        targets = torch.from_numpy(labels).to(self.device, torch.float32)
        self._generator.manual_seed(derive_seed(_REGULARISERS, self.recipe.seed, self.steps_done))
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        with self._autocast():
            logits, sampled = self._heads(x)
        loss = self._loss(logits, sampled, targets)
        lost, right = loss.item(), int(((logits > 0) == (targets > 0.5)).sum())
        if np.isfinite(lost) or self.share.count > 1:  # processes must all go backward, or wait for each other
            self._optimizer.zero_grad(set_to_none=True)
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self._scaler.step(self._optimizer)
            self._scaler.update()
        self.steps_done += 1
        return lost, right

    def _loss(self, logits: Tensor, sampled: Tensor | None, targets: Tensor) -> Tensor:
        loss = F.binary_cross_entropy_with_logits(logits, targets)
        if sampled is None:
            return loss
        return loss + self.recipe.rks_weight * F.binary_cross_entropy_with_logits(sampled, targets)

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = _AUTOCAST.get(self.recipe.precision)
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits ``(N,)`` of pictures ``(N, 256, 256, 3)`` as deployed: float32, no regulariser, kept statistics."""
        self.model.eval()
        try:
            with torch.inference_mode():
                logits: Tensor = self.model(normalise(torch.from_numpy(images).to(self.device)))
                return logits.cpu().numpy()
        finally:
            self.model.train()

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, beside the data: tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "steps_done": self.steps_done,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to what ``state`` gave.

        Raises:
            ValueError: the state is of another network or version, or has values that cannot be; nothing was changed.
        """
        check_step_state(state, self.state())
        check_moments(state["optimizer"], self._learning)
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self.steps_done = state["steps_done"]
