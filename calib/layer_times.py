"""How fast tensorrt-rtx's engines with some layers in INT8 are at best, by the kernels that it lists without a GPU.

INT8 halves the time of products, and adds kernels that quantise: on a card whose memory is the limit, that can be
slower than FP16. So a choice of layers is worth its errors only where its kernels take less time than FP16's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean

import onnx

from calib.findings_schema import CardSpeedValues, Findings
from engines.cards import cards_of
from engines.graph_forms import rewrite_for_rtx
from engines.kernel_list import read_kernels
from engines.library import Library
from engines.plans import BuildConfig, build_plan
from lfm_deploy.artifacts import GraphInfo
from lfm_deploy.errors import GateError
from lfm_deploy.kernels import Kernel
from lfm_deploy.progress import Progress

# Kernels of an engine by the GPU that it is for.
_KernelsByGpu = Mapping[str, tuple[Kernel, ...]]
# INT8 that is faster by less than this, by a bound that both share, is no reason to change decisions.
LEAST_GAIN = 1.02
_CONFIG = BuildConfig()


class NoGainError(GateError):
    """INT8 is not faster than FP16 on the cards that it was asked for."""


@dataclass(frozen=True, slots=True)
class RtxTarget:
    """What INT8 is chosen for.

    Attributes:
        library: tensorrt-rtx.
        gpus: compute capabilities, such as ``("sm86",)``.
        force: whether to take the fastest choice even where it is slower than FP16.
    """

    library: Library
    gpus: tuple[str, ...]
    force: bool = False


class LayerTimes:
    """Pictures a second at best, with and without INT8, on every card that is known of some GPUs."""

    def __init__(self, target: RtxTarget, source: GraphInfo, base: onnx.ModelProto) -> None:
        """List the kernels of the graph without INT8.

        Args:
            target: library and GPUs.
            source: metadata of the graph that is quantised.
            base: graph without INT8.
        """
        self._target, self._source = target, source
        self._kernels = self._list_kernels(base, target.gpus)
        self._base = _fps(self._kernels)

    @property
    def known(self) -> bool:
        """Whether a card of these GPUs is known, and the library listed kernels that can be counted."""
        return bool(self._base)

    def compare(self, model: onnx.ModelProto) -> list[CardSpeedValues]:
        """Both figures for each card; empty where they are not known.

        Args:
            model: graph with INT8 in some layers.
        """
        return self._compare(self._list_kernels(model, self._target.gpus))

    def arrange(
        self,
        choices: Sequence[tuple[str, ...]],
        make: Callable[[tuple[str, ...]], onnx.ModelProto],
        on_progress: Progress,
    ) -> list[tuple[str, ...]]:
        """Choices of layers that beat FP16 on a card, the fastest first; with ``force``, all of them.

        Args:
            choices: choices of layers.
            make: function that makes the graph of a choice.
            on_progress: function that is given the name of a step, how much of it is done, and of how much.

        Raises:
            NoGainError: no choice of layers is faster.
        """
        alike = self._group_gpus(make(max(choices, key=len)))
        speeds = {}
        for index, layers in enumerate(choices):
            on_progress("listing kernels", index, len(choices))
            listed = self._list_kernels(make(layers), tuple(alike))
            speeds[layers] = self._compare({gpu: listed[first] for first in listed for gpu in alike[first]})
        on_progress("listing kernels", len(choices), len(choices))
        ordered = sorted(choices, key=lambda layers: -_mean_gain(speeds[layers]))
        if self._target.force:
            return ordered
        faster = [layers for layers in ordered if gpus_that_gain(speeds[layers])]
        if not faster:
            raise NoGainError(explain_no_gain(self.compare(make(ordered[0]))))
        return faster

    def _group_gpus(self, model: onnx.ModelProto) -> dict[str, list[str]]:
        """GPUs that have the same kernels, with INT8 and without, by the first of them.

        One of them stands for all while choices are put in order, which is most of the time that a search takes. What
        is told of a choice is listed for each.

        Args:
            model: graph with INT8 in as many layers as any choice has.
        """
        with_int8 = self._list_kernels(model, self._target.gpus)
        groups: dict[object, list[str]] = {}
        for gpu in self._target.gpus:
            key = tuple(_without_names(kernels.get(gpu, ())) for kernels in (self._kernels, with_int8))
            groups.setdefault(key, []).append(gpu)
        return {group[0]: group for group in groups.values()}

    def _compare(self, kernels: _KernelsByGpu) -> list[CardSpeedValues]:
        return [
            {"card": card, "gpu": gpu, "fp16_fps": round(self._base[gpu, card]), "int8_fps": round(fps)}
            for (gpu, card), fps in _fps(kernels).items()
            if (gpu, card) in self._base
        ]

    def _list_kernels(self, model: onnx.ModelProto, gpus: Sequence[str]) -> _KernelsByGpu:
        """Without the GPUs whose kernels cannot be counted."""
        content = (rewrite_for_rtx(model) or model).SerializeToString()
        found = {}
        for gpu in gpus:
            plan = build_plan(content, "the INT8 graph", self._source, self._target.library, gpu, _CONFIG)
            kernels = read_kernels(line.text for line in plan.lines)
            if kernels is not None:
                found[gpu] = kernels
        return found


def _fps(kernels: _KernelsByGpu) -> dict[tuple[str, str], float]:
    """Pictures a second at best, by GPU and card."""
    return {
        (gpu, card.name): card.best_fps(listed, _CONFIG.batch[2])
        for gpu, listed in kernels.items()
        for card in cards_of(gpu)
    }


def _without_names(kernels: tuple[Kernel, ...]) -> tuple[Kernel, ...]:
    return tuple(replace(kernel, name="") for kernel in kernels)


def gpus_that_gain(speeds: Sequence[CardSpeedValues]) -> list[str]:
    """GPUs with a card on which INT8 is faster at best, in their order.

    Args:
        speeds: figures of ``LayerTimes.compare``.
    """
    return list(dict.fromkeys(speed["gpu"] for speed in speeds if _gain(speed) >= LEAST_GAIN))


def gpus_worth_building(findings: Findings, target: RtxTarget) -> tuple[str, ...]:
    """The GPUs of a target without those of whose cards none is faster with the INT8 that was found.

    Args:
        findings: findings of the search.
        target: library and GPUs that it was made for.
    """
    slower = {speed["gpu"] for speed in findings["at_best"]} - set(gpus_that_gain(findings["at_best"]))
    if target.force or findings["layers_asked"] != "search":
        return target.gpus
    return tuple(gpu for gpu in target.gpus if gpu not in slower)


def check_gain(findings: Findings, target: RtxTarget) -> None:
    """Refuse an INT8 graph that is not faster anywhere, also one that an earlier ``--force`` made.

    Raises:
        NoGainError: INT8 is not faster than FP16 on any card of these GPUs.
    """
    speeds = findings["at_best"]
    if speeds and findings["layers_asked"] == "search" and not target.force and not gpus_that_gain(speeds):
        raise NoGainError(explain_no_gain(speeds))


def explain_no_gain(speeds: Sequence[CardSpeedValues]) -> str:
    """One sentence with the figures of each GPU's best card, and what to do.

    Args:
        speeds: figures of the fastest choice.
    """
    best: dict[str, CardSpeedValues] = {}
    for speed in sorted(speeds, key=_gain):
        best[speed["gpu"]] = speed
    figures = "; ".join(
        f"{speed['card']} ({gpu}): at best {speed['int8_fps']:,} pictures a second, FP16 {speed['fp16_fps']:,}"
        for gpu, speed in best.items()
    )
    return (
        "INT8 is not worth its errors with tensorrt-rtx: no choice of layers beats FP16 by "
        f"{100 * LEAST_GAIN - 100:.0f} % ({figures}); ship FP16, or build it all the same with --force"
    )


def _gain(speed: CardSpeedValues) -> float:
    return speed["int8_fps"] / speed["fp16_fps"]


def _mean_gain(speeds: Sequence[CardSpeedValues]) -> float:
    """Over GPUs, each the mean of its cards; a choice without figures comes last."""
    by_gpu: dict[str, list[float]] = {}
    for speed in speeds:
        by_gpu.setdefault(speed["gpu"], []).append(_gain(speed))
    return mean(mean(gains) for gains in by_gpu.values()) if by_gpu else 0.0
