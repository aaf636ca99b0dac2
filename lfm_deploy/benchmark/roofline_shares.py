"""What share of the machine's ceilings each measured point reaches: its work, counted from the graph, over its time."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lfm_deploy.benchmark.ceilings import Ceiling
from lfm_deploy.benchmark.roofline import Limit, choose_kernels, find_limit
from lfm_deploy.benchmark.sweep import Sweep
from lfm_deploy.contract import usual_side
from lfm_deploy.deployment.graph_work import Work, count_work
from lfm_deploy.errors import ArtifactError
from lfm_deploy.quantisation import Recipe
from lfm_deploy.workdir import Workdir

if TYPE_CHECKING:
    from lfm_deploy.deployment.lineup import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How near one point comes to its roofline.

    Attributes:
        limit: roofline by the medians of the ceilings.
        share: measured pictures per second over those that the ceilings of the same round allow, as a fraction;
            median of the rounds.
        lowest, highest: lowest and highest of the rounds, as fractions.
    """

    limit: Limit
    share: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PointWork:
    """What one point had to do, and how near it came to what the machine can do.

    Attributes:
        work: work of one run in the kernels that the runtime uses; None where it cannot be counted.
        share: share of the roofline; None where there is no roofline.
        reason: reason why there is no roofline; None where there is one.
    """

    work: Work | None = None
    share: Share | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineWork:
    """In which arithmetic an engine runs, and the work of its points.

    Attributes:
        arithmetic: precision of the kernels that its own precision runs in, such as ``"fp32"`` for ``"fp16"`` on a CPU.
        reason: reason why the arithmetic is another one than its precision; None where it is not.
        points: work of each point that has figures, by batch size.
    """

    arithmetic: str
    reason: str | None = None
    points: Mapping[int, PointWork] = field(default_factory=dict)


def find_work(candidates: Sequence["Candidate"], sweep: Sweep) -> dict[str, EngineWork]:
    """The work of every point of a sweep, and its share of the ceilings that were measured in the same rounds.

    Args:
        candidates: engines of the sweep; their graphs lie beside them.
        sweep: run times and ceilings.

    Returns:
        What was found, by name of an engine.
    """
    return {candidate.name: _find_engine_work(candidate, sweep) for candidate in candidates}


def _find_engine_work(candidate: "Candidate", sweep: Sweep) -> EngineWork:
    precision, about = str(candidate.precision), sweep.about.get(candidate.name)
    if about is None:
        return EngineWork(arithmetic=precision)
    recipe = None if candidate.quantisation is None else str(candidate.quantisation.recipe)
    kernels, reason = choose_kernels(about["runtime"], about["device"], about["precision"], recipe)
    ceilings = sweep.ceilings.get(about["device"], {})
    points = {}
    for (name, batch), point in sweep.points.items():
        if name == candidate.name and point.failure is None:
            points[batch] = _find_point_work(candidate, batch, kernels, ceilings, point.summarise(batch).round_fps)
    return EngineWork(arithmetic=kernels.get(precision, precision), reason=reason, points=points)


def _find_point_work(
    candidate: "Candidate",
    batch: int,
    kernels: dict[str, str],
    ceilings: Mapping[str, Ceiling],
    round_fps: Sequence[float],
) -> PointWork:
    counted = _count(candidate, batch)
    if isinstance(counted, str):
        return PointWork(reason=counted)
    work = counted.in_kernels(kernels)
    share = _find_share(work, ceilings, batch, round_fps)
    return PointWork(work=work, reason=share) if isinstance(share, str) else PointWork(work=work, share=share)


def _count(candidate: "Candidate", batch: int) -> Work | str:
    """Counted from the graph that the engine runs, or was built from; else the reason why not."""
    recipe = Recipe.TENSORRT if candidate.quantisation is None else candidate.quantisation.recipe
    path = (
        candidate.path
        if candidate.path.suffix == ".onnx"
        else Workdir(candidate.path.parent).graph(candidate.precision, recipe)
    )
    if not path.is_file():
        return f"its work is counted from {path.name}, which is not in the workdir"
    size = "native" if candidate.contract is None else candidate.contract.size
    try:
        return count_work(path, batch, usual_side(size))
    except ArtifactError as error:
        return str(error)


def _find_share(work: Work, ceilings: Mapping[str, Ceiling], batch: int, round_fps: Sequence[float]) -> Share | str:
    """The limit by the ceilings' medians; the share round by round, so that a drift meets both alike."""
    limit = find_limit(work, {kind: ceiling.rate for kind, ceiling in ceilings.items()}, batch)
    if isinstance(limit, str):
        return limit
    shares = []
    for index, fps in enumerate(round_fps):
        then = find_limit(work, {kind: ceiling.rounds[index] for kind, ceiling in ceilings.items()}, batch)
        assert isinstance(then, Limit)  # noqa: S101  # the same ceilings as above
        shares.append(fps / then.fps)
    return Share(limit=limit, share=statistics.median(shares), lowest=min(shares), highest=max(shares))
