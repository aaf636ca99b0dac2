"""What the kernels of an engine would take at best, on every card of its kind: a speed that needs no GPU.

Each kernel takes at least the time in which the card's memory moves its bytes, and in which its arithmetic does the
products; kernels run one after the other, so the sum bounds the speed from above. At the largest batch, whose maps fit
no cache.
"""

import re
from collections.abc import Iterable
from typing import TypedDict

from engines.cards import cards_of
from lfm_deploy.engine_info import EngineInfo
from lfm_deploy.kernels import KernelValues, count_bytes

_LONGEST_NAME = 32


class KernelTimeValues(TypedDict):
    """One kernel of an engine.

    Attributes:
        kernel: name, kind, bytes and products.
        microseconds: time for one picture at best, on the table's card; None where no card is known.
    """

    kernel: KernelValues
    microseconds: float | None


class CardFpsValues(TypedDict):
    """What an engine cannot exceed on one card.

    Attributes:
        card: name of the card, such as ``"RTX A6000"``.
        fps: pictures a second at best.
        source: document of NVIDIA's that states what the card can do.
    """

    card: str
    fps: int
    source: str


class KernelTableValues(TypedDict):
    """The kernels of an engine, as the library lists them.

    Attributes:
        gpu: compute capability that the engine was built for.
        batch: number of pictures in a run that the times are for.
        form: form of the graph, ``"exported"`` or ``"rewritten"``.
        picture_bytes: number of bytes that all kernels move for one picture.
        multiply_adds: number of multiply-adds for one picture, at least.
        kernels: kernels, in the order in which they run.
        cards: speeds at best; the times of the kernels are those of the first card.
    """

    gpu: str
    batch: int
    form: str
    picture_bytes: int
    multiply_adds: int
    kernels: list[KernelTimeValues]
    cards: list[CardFpsValues]


def describe_kernels(info: EngineInfo) -> KernelTableValues | None:
    """The table of an engine; None where its library lists no kernels.

    Args:
        info: contents of the engine's sidecar.
    """
    if info.kernels is None:
        return None
    cards, batch = cards_of(info.gpu), info.batch[2]
    return {
        "gpu": info.gpu,
        "batch": batch,
        "form": info.form,
        "picture_bytes": count_bytes(info.kernels),
        "multiply_adds": sum(kernel.multiply_adds for kernel in info.kernels),
        "kernels": [
            {
                "kernel": kernel.as_dict(),
                "microseconds": round(1e6 * cards[0].best_seconds(kernel, batch), 3) if cards else None,
            }
            for kernel in info.kernels
        ],
        "cards": [
            {"card": card.name, "fps": round(card.best_fps(info.kernels, batch)), "source": card.source}
            for card in cards
        ],
    }


def advise_cards(tables: Iterable[tuple[str, KernelTableValues]]) -> list[str]:
    """Which precision to ship to which card, by what kernels take at best; one line for each GPU with two precisions.

    Args:
        tables: precision and table of each engine.
    """
    by_gpu: dict[str, dict[str, dict[str, int]]] = {}
    for precision, table in tables:
        for entry in table["cards"]:
            by_gpu.setdefault(table["gpu"], {}).setdefault(entry["card"], {})[precision] = entry["fps"]
    lines = []
    for gpu, cards in by_gpu.items():
        shipped: dict[str, list[str]] = {}
        for card, speeds in cards.items():
            if len(speeds) > 1:
                shipped.setdefault(max(speeds, key=lambda name: speeds[name]), []).append(_show(card, speeds))
        if shipped:
            parts = [f"ship {precision.upper()} to {', '.join(names)}" for precision, names in shipped.items()]
            lines.append(f"tensorrt-rtx on {gpu}, by its kernels at best, not measured: {'; '.join(parts)}")
    return lines


def show_name(kernel: KernelValues) -> str:
    """The name of a kernel, short enough for a table."""
    name = re.sub(r"^__myl_|_myl\d+_\d+$", "", kernel["name"])
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def show_arithmetic(kernel: KernelValues) -> str:
    """The arithmetic of a kernel in words."""
    return {None: "-", "cores": "fp32 cores"}.get(kernel["arithmetic"], kernel["arithmetic"] or "-")


def _show(card: str, speeds: dict[str, int]) -> str:
    """A card, and how much faster the best precision is than the next."""
    best, second = sorted(speeds.values(), reverse=True)[:2]
    other = sorted(speeds, key=lambda name: -speeds[name])[1]
    return f"{card} ({best / second:.2f} x {other.upper()})"
