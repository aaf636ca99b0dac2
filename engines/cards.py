"""What named cards can do at best, as NVIDIA states it: ``cards.csv``, a card a line, each with its source.

Rates are without sparsity, those of float16 with float16 sums, where cards for games add float32 at half of that: so
the times that come of them are lower bounds, and INT8 is not made to look better than it is.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lfm_deploy.kernels import Kernel

_FILE = Path(__file__).with_name("cards.csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One card.

    Attributes:
        name: name, such as ``"RTX A6000"``.
        gpu: compute capability, such as ``"sm86"``.
        bytes_per_second: bandwidth of its memory.
        operations_per_second: rates by arithmetic, two operations a multiply-add: ``"fp16"`` and ``"int8"`` of the
            tensor cores, ``"fp32"`` and ``"cores"`` outside of them.
        source: document of NVIDIA's that states them.
    """

    name: str
    gpu: str
    bytes_per_second: float
    operations_per_second: dict[str, float]
    source: str

    def best_seconds(self, kernel: Kernel, batch: int) -> float:
        """Time that a kernel takes for one picture at best: it moves its bytes, or does its products.

        Args:
            kernel: kernel of an engine.
            batch: pictures in a run, over which what is moved once a run is shared out.
        """
        moving = (kernel.picture_bytes + kernel.run_bytes / batch) / self.bytes_per_second
        if kernel.arithmetic is None:
            return moving
        return max(moving, 2 * kernel.multiply_adds / self.operations_per_second[kernel.arithmetic])

    def best_fps(self, kernels: Iterable[Kernel], batch: int) -> float:
        """Pictures a second that kernels, one after the other, cannot exceed.

        Args:
            kernels: kernels of an engine, in their order.
            batch: pictures in a run.
        """
        return 1 / sum(self.best_seconds(kernel, batch) for kernel in kernels)


@cache
def read_cards() -> tuple[Card, ...]:
    """All cards, in the order of the file: the first of a compute capability stands for it where one must."""
    with _FILE.open(encoding="utf-8", newline="") as lines:
        return tuple(
            Card(
                name=row["card"],
                gpu=row["gpu"],
                bytes_per_second=float(row["gb_per_second"]) * 1e9,
                operations_per_second={
                    "fp32": float(row["fp32_tflops"]) * 1e12,
                    "cores": float(row["fp32_tflops"]) * 1e12,
                    "fp16": float(row["fp16_tflops"]) * 1e12,
                    "int8": float(row["int8_tops"]) * 1e12,
                },
                source=row["source"],
            )
            for row in csv.DictReader(lines)
        )


def cards_of(gpu: str) -> tuple[Card, ...]:
    """The cards of a compute capability such as ``"sm86"``; empty where none is known here."""
    return tuple(card for card in read_cards() if card.gpu == gpu)
