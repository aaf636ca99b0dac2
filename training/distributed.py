"""One training over several processes: who has which rows of a batch, and statistics of the whole batch.

Every process takes an equal run of the rows of each global batch. With mean losses averaged over processes (DDP does
that to gradients), batch statistics over all rows, and random draws made for the global batch and cut, several
processes compute what one would at the same global batch, up to the order in which sums are rounded.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from lfm_deploy.errors import ConfigError, UnavailableError


@dataclass(frozen=True, slots=True)
class Share:
    """This process among those of one training: its number from 0, and how many there are."""

    index: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.index == 0

    def rows(self, batch: int) -> slice:
        """Its rows of a global batch.

        Raises:
            ConfigError: the batch cannot be cut into equal shares.
        """
        if batch % self.count:
            raise ConfigError(f"a batch of {batch} cannot be shared equally by {self.count} processes; change batch")
        size = batch // self.count
        return slice(self.index * size, (self.index + 1) * size)


@contextmanager
def join_processes(device: str | None) -> Iterator[tuple[Share, torch.device]]:
    """Join the processes that ``torchrun`` started, over NCCL on GPUs and gloo on CPUs; alone without it.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; None is a GPU where there is one.

    Yields:
        This process's share, and its device.

    Raises:
        UnavailableError: CUDA is asked for and not there.
        ConfigError: the device is not a known one.
    """
    chosen = _find_device(device)
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        yield Share(), chosen
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Share(dist.get_rank(), dist.get_world_size()), chosen
    finally:
        dist.destroy_process_group()


def _find_device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"no device {name!r}; devices are cpu, cuda and cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"cannot train on {name!r}; devices are cpu, cuda and cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UnavailableError("no CUDA device for this PyTorch; train with --device cpu")
    return device


def sum_over_processes(values: Sequence[float], share: Share, device: torch.device) -> list[float]:
    """Sums of each value over all processes, in float64."""
    if share.count == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return [float(value) for value in total.tolist()]


def gather_objects(value: Any, share: Share) -> list[Any]:
    """What every process has, in the order of the processes."""
    if share.count == 1:
        return [value]
    gathered: list[Any] = [None] * share.count
    dist.all_gather_object(gathered, value)
    return gathered


def draw_uniforms(shape: Sequence[int], share: Share, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1) for this process's rows, cut from those of the global batch.

    Args:
        shape: shape of the numbers for this process; the first axis is its rows.
        share: rows of the global batch that belong to this process.
        generator: random generator, which is in the same state in every process.
    """
    rows, *rest = shape
    drawn = torch.rand((rows * share.count, *rest), generator=generator, device=generator.device)
    return drawn[share.rows(len(drawn))]


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with the statistics of all processes' rows; PyTorch's own knows GPUs alone.

    All processes must have as many rows. Mean and mean square deviation are sums over processes, whose gradients are
    sums over processes again.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(N, C, h, w)``."""
        if not self.training:
            return super().forward(x)
        count = x.numel() // x.shape[1] * dist.get_world_size()
        mean: Tensor = _Sum.apply(x.sum((0, 2, 3))) / count  # type: ignore[no-untyped-call]
        centred = x - mean.view(1, -1, 1, 1)
        variance: Tensor = _Sum.apply(centred.square().sum((0, 2, 3))) / count  # type: ignore[no-untyped-call]
        self._keep_statistics(mean.detach(), variance.detach() * count / (count - 1))
        return torch.addcmul(
            self.bias.view(1, -1, 1, 1), centred, (self.weight * torch.rsqrt(variance + self.eps)).view(1, -1, 1, 1)
        )

    def _keep_statistics(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None  # noqa: S101  # for the type checker
        assert self.running_var is not None  # noqa: S101
        assert self.num_batches_tracked is not None  # noqa: S101
        assert self.momentum is not None  # noqa: S101
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class _Sum(torch.autograd.Function):
    """Sums over processes; each process's gradient is the sum of all processes' gradients."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def share_statistics(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with batch statistics over all processes; names and values of its parameters stay."""
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return converted
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            shared = SharedBatchNorm2d(child.num_features, child.eps, child.momentum).to(child.weight)
            shared.load_state_dict(child.state_dict())
            setattr(module, name, shared)
        else:
            share_statistics(child, device)
    return module
