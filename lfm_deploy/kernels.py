"""What one kernel of an engine moves and multiplies, as sidecars and reports have it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, TypedDict

from lfm_deploy.storage.complaints import matching
from lfm_deploy.storage.values import Count

_ARITHMETIC = matching("fp32|fp16|int8|cores", "fp32, fp16, int8 or cores")


class KernelValues(TypedDict):
    """One kernel as JSON has it; the fields are those of ``Kernel``.

    Attributes:
        name: name that the library gave it.
        kind: kind of the kernel, such as ``"correlation"`` or ``"maxpool"``; ``"kgen"`` is one that the library's own
            compiler wrote.
        picture_bytes: number of bytes that it reads and writes for each picture.
        run_bytes: number of bytes that it reads and writes once a run, whatever the batch: weights.
        arithmetic: arithmetic of its products: ``"fp32"``, ``"fp16"`` or ``"int8"`` on tensor cores where there are
            any, or ``"cores"`` for float32 outside of them; None without products.
        multiply_adds: number of multiply-adds for each picture, at least.
    """

    name: str
    kind: str
    picture_bytes: int
    run_bytes: int
    arithmetic: str | None
    multiply_adds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel of an engine; see ``KernelValues`` for the fields."""

    name: str
    kind: str
    picture_bytes: Count
    run_bytes: Count
    arithmetic: Annotated[str, _ARITHMETIC] | None
    multiply_adds: Count

    def as_dict(self) -> KernelValues:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "kind": self.kind,
            "picture_bytes": self.picture_bytes,
            "run_bytes": self.run_bytes,
            "arithmetic": self.arithmetic,
            "multiply_adds": self.multiply_adds,
        }


def count_bytes(kernels: Iterable[Kernel]) -> int:
    """Bytes that an engine moves for one picture of a large batch."""
    return sum(kernel.picture_bytes for kernel in kernels)
