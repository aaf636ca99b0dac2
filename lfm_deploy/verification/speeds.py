"""How fast an engine is and what memory it takes, measured where that is not known from an earlier run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from engines.device_plan import plan_memory
from lfm_deploy.benchmark.benchmark import Speed, measure_speed
from lfm_deploy.contract import usual_side
from lfm_deploy.deployment.lineup import Candidate
from lfm_deploy.engine_info import read_engine_info
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.scoring.score_cache import ScoreCache, scorer_key

SPEED_BATCHES = (1, 8, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """What memory an engine takes.

    Attributes:
        kind: ``"host"`` or ``"device"``, whose memory it is.
        mib: amount in MiB.
        what: line that says what was measured or stated.
    """

    kind: str
    mib: float
    what: str


def measure_speeds(
    candidates: Sequence[Candidate],
    ran: Mapping[str, Mapping[str, Any] | None],
    cache: ScoreCache | None,
    seconds: float,
    on_progress: Progress = ignore_progress,
) -> dict[str, tuple[Speed, ...]]:
    """Speeds of engines, each with its ratio to PyTorch's where that runs on the same device.

    Args:
        candidates: engines, the reference first.
        ran: identities from ``identify`` by name of an engine, of those alone that can run here.
        cache: cache of speeds; None measures all, and keeps nothing.
        seconds: least time in seconds for each figure; 0 measures none.
        on_progress: callback that gets what is done, the number of engines, and their total.

    Returns:
        Speeds by name of an engine, one a batch size.

    Raises:
        BenchmarkError: a measuring process failed.
        CacheError: the cache cannot be read or written.
    """
    if not seconds:
        return {}
    reference, found = candidates[0], dict[str, tuple[Speed, ...]]()
    for done, candidate in enumerate(candidates):
        on_progress("measuring speed", done, len(candidates))
        if candidate.name not in ran:
            continue
        speeds = find_speeds(candidate, ran[candidate.name], cache, seconds)
        same_device = candidate.device == reference.device
        pytorch = () if not same_device else speeds if candidate is reference else found.get(reference.name, ())
        found[candidate.name] = compare_with_pytorch(speeds, pytorch)
    on_progress("measuring speed", len(candidates), len(candidates))
    return found


def find_speeds(
    candidate: Candidate, identity: Mapping[str, Any] | None, cache: ScoreCache | None, seconds: float
) -> list[Speed]:
    """Speeds at the batch sizes that a candidate takes; what is not in the cache is measured in a fresh process.

    Args:
        candidate: engine that can run here.
        identity: identity of the candidate from ``identify``; None measures all, and keeps nothing.
        cache: cache of speeds; None measures all, and keeps nothing.
        seconds: least time in seconds for each batch size.

    Raises:
        BenchmarkError: the measuring process failed.
        CacheError: the cache cannot be read or written.
    """
    batches = [size for size in SPEED_BATCHES if candidate.batches[0] <= size <= candidate.batches[1]]
    side = usual_side("native" if candidate.contract is None else candidate.contract.size)
    key = None if identity is None else scorer_key(scorer=dict(identity), speed={"side": side, "seconds": seconds})
    known: dict[int, Speed] = {}
    if cache is not None and key is not None:
        known = cache.find_speeds(key, Speed)
    missing = [batch for batch in batches if batch not in known]
    if missing:
        measured = measure_speed(
            candidate.path,
            missing,
            device=candidate.device,
            side=side,
            seconds=seconds,
            form=candidate.form,
        )
        known |= {speed.batch: speed for speed in measured}
        if cache is not None and key is not None:
            cache.add_speeds(key, {speed.batch: asdict(speed) for speed in measured})
    return [known[batch] for batch in batches]


def compare_with_pytorch(speeds: Sequence[Speed], reference: Sequence[Speed]) -> tuple[Speed, ...]:
    """The same speeds, each with its ratio to PyTorch's at the same batch.

    Args:
        speeds: speeds of one engine, one a batch size.
        reference: speeds of PyTorch in FP32 on the same device; empty where it ran elsewhere.
    """
    fps = {speed.batch: speed.fps for speed in reference}
    return tuple(
        replace(speed, times_pytorch=speed.fps / fps[speed.batch] if speed.batch in fps else None) for speed in speeds
    )


def find_memory(candidate: Candidate, speeds: Sequence[Speed]) -> MemoryUse | None:
    """What memory a candidate takes: on its GPU as the sidecar states it, else of the process that was measured.

    None where neither is known.

    Args:
        candidate: engine that may have run.
        speeds: speeds of the engine, with the memory of the process that was measured; empty where none was.

    Raises:
        ArtifactError: the sidecar of a TensorRT engine is missing or damaged.
    """
    if candidate.path.suffix == ".engine":
        info = read_engine_info(candidate.path)
        if info.activation_bytes is None:
            return None  # the build log did not say, and activations are nearly all of it
        what = f"on the GPU at batch {info.batch[2]}: weights and activations by its build log, and buffers"
        return MemoryUse(kind="device", mib=plan_memory(info).total / 2**20, what=what)
    for kind, name in (("device", "device_memory_mib"), ("host", "memory_mib")):
        peaks = [(getattr(speed, name), speed.batch) for speed in speeds if getattr(speed, name) is not None]
        if peaks:
            mib, batch = max(peaks)
            what = f"most that a process held which ran it alone, up to batch {batch}"
            return MemoryUse(kind=kind, mib=mib, what=what)
    return None
