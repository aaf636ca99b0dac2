"""How much GPU memory an engine will need, known before any of it is allocated."""

import math
from dataclasses import dataclass
from pathlib import Path

from engines.batch_parts import PART_PIXELS
from engines.conveyor import Lanes
from engines.gpus import Gpu
from lfm_deploy.artifacts import InputForm
from lfm_deploy.engine_info import EngineInfo
from lfm_deploy.errors import UnavailableError

# While one part is computed, the next one is copied, and the one after it is filled.
LANES = Lanes(slots=3)

_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """GPU memory of one engine at its largest batch, in bytes.

    Attributes:
        weights: bytes of the network's weights.
        activations: bytes of the values between the layers, for the largest batch and side of the profile.
        buffers: bytes of the buffers for pictures and results, in all slots.
    """

    weights: int
    activations: int
    buffers: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.activations + self.buffers

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {getattr(self, name) / _MIB:.1f}" for name in ("weights", "activations", "buffers"))
        return f"{self.total / _MIB:.1f} MiB of GPU memory ({parts})"


def image_shape(info: EngineInfo, batch: int) -> tuple[int, int, int, int]:
    """The largest input of a batch: ``(N, H, W, 3)``, or ``(N, 3, H, W)`` where the graph takes floats."""
    side = info.sides[2] if info.sides is not None else int(info.contract.size)
    return (batch, side, side, 3) if info.input is InputForm.UINT8 else (batch, 3, side, side)


def plan_memory(info: EngineInfo, *, activations: int | None = None, weights: int | None = None) -> MemoryPlan:
    """What an engine needs at its largest batch.

    Args:
        info: contents of the engine's sidecar.
        activations: bytes, as the loaded engine states them; None takes what the build log stated, or 0 if it did not.
        weights: bytes still to come; None takes what the build log stated, or else the size of the plan, which
            holds them.
    """
    smallest, _, largest = info.batch
    itemsize = 1 if info.input is InputForm.UINT8 else 4
    whole, least = (math.prod(image_shape(info, batch)) * itemsize for batch in (largest, smallest))
    # One slot holds the largest batch where its phases are timed; pictures come in parts.
    part = min(whole, max(least, PART_PIXELS * 3 * itemsize, math.prod(image_shape(info, 1)) * itemsize))
    return MemoryPlan(
        weights=(info.weights_bytes or info.plan_bytes) if weights is None else weights,
        activations=(info.activation_bytes or 0) if activations is None else activations,
        buffers=whole + (LANES.slots - 1) * part + LANES.slots * largest * 4 + sum(evidence_bytes(info).values()),
    )


def evidence_bytes(info: EngineInfo) -> dict[str, int]:
    """Bytes of each evidence output at the largest batch; empty for engines without them."""
    # Values are float32, positions int32.
    nbytes = info.batch[2] * info.config.features * 4
    return {"evidence_values": nbytes, "evidence_positions": nbytes} if info.evidence else {}


def check_memory(path: Path, info: EngineInfo, plan: MemoryPlan, gpu: Gpu, free: int, total: int) -> None:
    """Refuse an engine that does not fit.

    Args:
        path: path of the engine, for the message.
        info: contents of the engine's sidecar.
        plan: memory that the engine needs, from ``plan_memory``.
        gpu: GPU that the engine is to run on.
        free: bytes of that GPU that nobody holds.
        total: bytes that it has.

    Raises:
        UnavailableError: the engine does not fit; the message has the figures and what to do.
    """
    if plan.total <= free:
        return
    smallest, optimal, largest = info.batch
    smaller = max(smallest, largest // 2)
    rebuild = f"build it for smaller batches (--batch {smallest},{min(optimal, smaller)},{smaller})"
    raise UnavailableError(
        f"{path}: not run: batches up to {largest} need {plan}, and {gpu.name} has {free / _MIB:.1f} of "
        f"{total / _MIB:.1f} MiB free; {rebuild}, choose another GPU (--device cuda:N), or end what else runs there"
    )
