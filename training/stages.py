"""A faster training step for SNet on the CPU, exact in real numbers: pool first, normalise a quarter.

A stage of SNet computes y = maxpool(relu(g * (x - m) / s + b)) with the batch's mean m and deviation s of a channel.
An affine map with g > 0 and ReLU both keep the order of values, so they commute with the maximum:

    y = relu(g * xh + b),   xh = (maxpool(x) - m) / s.

(Where g < 0 the smallest value of a window counts; the sign of g is taken into x.) Normalisation and ReLU then touch a
quarter of the values. With d = dL/dy * [y > 0], n = N * h * w values of a channel, the gradients are

    dL/db = sum d,   dL/dg = sum d * xh,
    dL/dx = (g / s) * (scatter(d) - dL/db / n - (x - m) / s * dL/dg / n),

where scatter puts each d where its maximum stood; the rest is a straight line in x, which is one pass.

The bias of a convolution in front of batch normalisation cancels in x - m, so its gradient is 0: it is not computed,
and the bias keeps its first value. Adam would otherwise divide rounding errors by their own size and let it wander.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PooledNorm(nn.BatchNorm2d):
    """Batch normalisation, ReLU and 2x2 max pooling in one: ``(N, C, h, w)`` -> ``(N, C, h // 2, w // 2)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by the batch in training, by the running statistics otherwise."""
        if not self.training:
            return F.relu(F.max_pool2d(super().forward(x), 2))
        if not bool((self.weight > 0).all()):
            signs = torch.where(self.weight >= 0, 1.0, -1.0).detach()
            return self._normalise(x * signs.view(1, -1, 1, 1), self.weight * signs, signs)
        return self._normalise(x, self.weight, None)

    def _normalise(self, x: Tensor, weight: Tensor, signs: Tensor | None) -> Tensor:
        found: tuple[Tensor, Tensor, Tensor]
        found = _PoolAndNormalise.apply(x, weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        pooled, mean, variance = found
        self._keep_statistics(mean if signs is None else mean * signs, variance, x.numel() // x.shape[1])
        return pooled

    def _keep_statistics(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None  # noqa: S101  # for the type checker
        assert self.running_var is not None  # noqa: S101
        assert self.num_batches_tracked is not None  # noqa: S101
        assert self.momentum is not None  # noqa: S101
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)


class _PoolAndNormalise(torch.autograd.Function):
    """The algebra at the top of the file, for weights that are not negative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        places_first = _places_first(x)
        # Statistics and pooling are several times faster with the channels side by side, and worth the copy.
        beside = x.contiguous(memory_format=torch.channels_last)
        mean, variance = torch.batch_norm_update_stats(beside, None, None, 0.0)
        largest, places = F.max_pool2d_with_indices(beside, [2, 2])
        if not places_first:
            largest, places = largest.contiguous(), places.contiguous()
        inverse = torch.rsqrt(variance + eps)
        normalised = (largest - _channels(mean)).mul_(_channels(inverse))
        pooled = torch.addcmul(_channels(bias), normalised, _channels(weight)).clamp_min_(0)
        ctx.save_for_backward(x, weight, mean, inverse, normalised, places, pooled)
        ctx.mark_non_differentiable(mean, variance)
        return pooled, mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, inverse, normalised, places, pooled = ctx.saved_tensors
        places_first = _places_first(x)
        arriving = torch.where(pooled > 0, gradients[0], 0)
        for_bias = arriving.sum((0, 2, 3))
        for_weight = (arriving * normalised).sum((0, 2, 3))
        gain = weight * inverse
        count = x.numel() // x.shape[1]
        slope = -gain * inverse * for_weight / count
        offset = -gain * for_bias / count - slope * mean
        arriving.mul_(_channels(gain))
        if places_first:  # as they lie in memory: to scatter over the other view takes four times as long
            by_place = x.permute(0, 2, 3, 1)
            for_x = torch.addcmul(offset, by_place, slope)
            for_x.flatten(1, 2).scatter_add_(1, _flat_places(places), _flat_places(arriving))
            return for_x.permute(0, 3, 1, 2), for_weight, for_bias, None
        for_x = torch.addcmul(_channels(offset), x, _channels(slope))
        for_x.flatten(2).scatter_add_(2, places.flatten(2), arriving.flatten(2))
        return for_x, for_weight, for_bias, None


def _places_first(x: Tensor) -> bool:
    """Whether the channels of a place lie side by side in memory."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _flat_places(x: Tensor) -> Tensor:
    """``(N, C, h, w)`` -> ``(N, h * w, C)``."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _channels(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


def fuse_stages(model: nn.Module) -> None:
    """Put ``PooledNorm`` where batch normalisation, ReLU and 2x2 max pooling follow each other, in either order.

    Names and values of parameters stay, so checkpoints do not change.
    """
    for stage in model.modules():
        if not isinstance(stage, nn.Sequential) or not _can_fuse(stage):
            continue
        norm = stage[1]
        assert isinstance(norm, nn.BatchNorm2d)  # noqa: S101  # what _can_fuse has seen
        fused = PooledNorm(norm.num_features, norm.eps, norm.momentum).to(norm.weight)
        fused.load_state_dict(norm.state_dict())
        stage[1], stage[2], stage[3] = fused, nn.Identity(), nn.Identity()


def _can_fuse(stage: nn.Sequential) -> bool:
    kinds = [type(layer) for layer in stage]
    if kinds[:2] != [nn.Conv2d, nn.BatchNorm2d] or set(kinds[2:]) != {nn.ReLU, nn.MaxPool2d} or len(kinds) != 4:
        return False
    (pool,) = (layer for layer in stage if isinstance(layer, nn.MaxPool2d))
    plain = (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode) == (2, 2, 0, 1, False)
    return plain and isinstance(stage[1].momentum, float) and bool(stage[1].track_running_stats)


def freeze_idle_biases(model: nn.Module) -> None:
    """Take the biases that batch normalisation cancels out of training; see the top of the file."""
    for stage in model.modules():
        if isinstance(stage, nn.Sequential):
            for layer, after in zip(stage, list(stage)[1:], strict=False):
                if isinstance(layer, nn.Conv2d) and isinstance(after, nn.BatchNorm2d) and layer.bias is not None:
                    layer.bias.requires_grad_(False)
