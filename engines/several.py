"""Several engines as one: each takes an equal share of a batch, in a thread of its own."""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.devices import split_devices
from engines.engine import Engine
from engines.gpus import count_gpus
from lfm_deploy.errors import ConfigError, ShapeError


def share_batch(pictures: int, members: int, smallest: int) -> list[slice]:
    """Equal shares of a batch, one for each member, in order.

    No share is below the smallest batch that a member runs while the whole is not: fewer members work then.
    """
    working = max(1, min(members, pictures // smallest))
    bounds = [pictures * index // working for index in range(working + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]


def name_devices(gpus: str) -> str:
    """The device list for ``--gpus``: ``"0,2"`` is ``"cuda:0,cuda:2"``, and ``"all"`` is every GPU here.

    Raises:
        ConfigError: the text is neither ``"all"`` nor a list of devices.
        UnavailableError: ``"all"`` was asked for, and there is no GPU.
    """
    if gpus.strip() == "all":
        return ",".join(f"cuda:{index}" for index in range(count_gpus()))
    indices = [part.strip() for part in gpus.split(",")]
    if not all(index.isdecimal() for index in indices):
        raise ConfigError(f"--gpus {gpus!r}: expected CUDA's numbers of GPUs, such as 0,1, or all")
    return ",".join(split_devices(",".join(f"cuda:{int(index)}" for index in indices)))


class SeveralEngines:
    """Engines of one file on several devices. See ``Engine`` for the attributes.

    Each member is opened, used and closed in a thread of its own, since CUDA keeps the chosen GPU for each thread.

    Attributes:
        members: the engines, in the order of their shares.
    """

    def __init__(self, openers: Sequence[Callable[[], Engine]]) -> None:
        """Open every member.

        Args:
            openers: functions without arguments, each of which opens one member.

        Raises:
            ConfigError: there is no member, or the members judge differently.
            DeployError: a member cannot be opened; the others are closed again.
        """
        if not openers:
            raise ConfigError("got no engine to share a batch out to, expected at least one")
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix=f"engine-{index}") for index in range(len(openers))]
        opening = [thread.submit(opener) for thread, opener in zip(self._threads, openers, strict=True)]
        self.members: list[Engine] = [future.result() for future in opening if future.exception() is None]
        try:
            _raise_first(opening)
            _check_alike(self.members)
        except BaseException:
            for future, thread in zip(opening, self._threads, strict=True):
                if future.exception() is None:
                    thread.submit(future.result().close).result()
                thread.shutdown()
            raise
        first = self.members[0]
        self.name = f"{first.name} x{len(self.members)}"
        self.runtime = first.runtime
        self.precision = first.precision
        self.device = ",".join(member.device for member in self.members)
        smallest, largest = first.batch_range
        self.batch_range = (smallest, largest * len(self.members))
        self.contract = first.contract
        self.config = first.config

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits of pictures; a logit above the contract's threshold is fake.

        Args:
            images: pictures in host memory, RGB, uint8 ``(N, H, W, 3)``; any number.

        Returns:
            float32 ``(N,)``, in the order of the pictures.

        Raises:
            ShapeError: the pictures are not what the contract says, or lie on one of the GPUs.
        """
        if hasattr(images, "__cuda_array_interface__"):
            raise ShapeError(
                f"{self.name}: the pictures lie on one GPU, expected them in host memory to share them out; "
                "use an engine on that GPU alone"
            )
        shares = share_batch(len(images), len(self.members), self.batch_range[0])
        working = [
            thread.submit(member.logits, images[share])
            for thread, member, share in zip(self._threads, self.members, shares, strict=False)
        ]
        _raise_first(working)
        return np.concatenate([future.result() for future in working])

    def close(self) -> None:
        """Close every member."""
        closing = [thread.submit(member.close) for thread, member in zip(self._threads, self.members, strict=True)]
        for thread in self._threads:
            thread.shutdown()
        _raise_first(closing)


def _raise_first(futures: Sequence[Future[Any]]) -> None:
    """Wait for all, then raise the failure of the first that has one."""
    for error in [future.exception() for future in futures]:
        if error is not None:
            raise error


def _check_alike(members: Sequence[Engine]) -> None:
    first = members[0]
    for other in members[1:]:
        if (other.contract, other.config, other.precision) != (first.contract, first.config, first.precision):
            raise ConfigError(f"{other.name} and {first.name} judge differently, expected engines of one file")
