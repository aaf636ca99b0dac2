"""The two logits that are trained: that of Top-K pooling, with RBLD where it is on, and that of random-k sampling."""

from typing import cast

import torch
from torch import Tensor, nn

from lfm_deploy.config import ValueOrder
from lfm_deploy.network.model import LFM
from lfm_deploy.network.pooling import TopKPooling
from training.distributed import Share, draw_uniforms
from training.recipe import TrainingRecipe
from training.regularizers import rank_based_linear_dropout, sample_random_k


class TrainingHeads(nn.Module):
    """A network with the regularisers of its recipe; both heads go through the network's one linear layer."""

    def __init__(self, model: LFM, recipe: TrainingRecipe, share: Share, generator: torch.Generator) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.share = share
        self.generator = generator

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits ``(N,)`` of normalised pictures ``(N, 3, H, W)``, and those of random-k sampling where it is on."""
        maps = self.model.maps(x).float()  # sums of losses and ranks stay in float32 under autocast
        if not (self.recipe.rbld or self.recipe.rks_weight):
            return self._logits(self.model.pool(maps)), None
        # A recipe has regularisers only where its model has Top-K pooling.
        values, _ = cast(TopKPooling, self.model.pool).select(maps)
        if self.recipe.rbld:
            low, high = self.recipe.rbld_p
            uniforms = draw_uniforms(values.shape, self.share, self.generator)
            ascending = rank_based_linear_dropout(
                self._turned(values), p_min=low, p_max=high, rescale=self.recipe.rbld_rescale, uniforms=uniforms
            )
            values = self._turned(ascending)
        if not self.recipe.rks_weight:
            return self._logits(values.flatten(1)), None
        sampled = sample_random_k(
            maps, self.model.config.k, uniforms=draw_uniforms(maps.flatten(2).shape, self.share, self.generator)
        )
        return self._logits(values.flatten(1)), self._logits(self._turned(sampled).flatten(1))

    def _logits(self, pooled: Tensor) -> Tensor:
        logits: Tensor = self.model.fc(pooled)
        return logits.squeeze(1).float()

    def _turned(self, values: Tensor) -> Tensor:
        """From the model's order of values to ascending, and back."""
        return values if self.model.config.order is ValueOrder.ASCENDING else values.flip(2)
