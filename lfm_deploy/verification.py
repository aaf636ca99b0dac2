"""Do all engines make the checkpoint's decisions? Every engine of a workdir against PyTorch over suites."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.cpu_settings import find_settings
from engines.engine import Engine
from engines.loading import load_engine
from lfm_deploy.artifacts import Precision, build_command, read_engine_info, read_graph_info
from lfm_deploy.atomic import sha256_of_file
from lfm_deploy.benchmark import Speed, measure_speed
from lfm_deploy.comparison import Scores, SuiteResult, compare_suite, measure_suite
from lfm_deploy.contract import Contract, check_contract
from lfm_deploy.errors import ArtifactError, ImageError, OtherGpuError, SuiteError, UnavailableError
from lfm_deploy.gates import judge_suite
from lfm_deploy.images import SkippedImage, read_batches
from lfm_deploy.quantisation import Budget, Quantisation, Recipe
from lfm_deploy.statistics.gate import Gate, Outcome, VerdictOutcome
from lfm_deploy.suites import Suite, TestSet
from lfm_deploy.workdir import Workdir, check_origin

SPEED_BATCHES = (1, 32)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A file that ought to run: the checkpoint, which comes first and is the reference, a graph or an engine.

    Attributes:
        path: of the file.
        name: in reports, unique in a workdir.
        place: runtime and device, the same for engines whose speeds can be compared.
        precision: of its arithmetic.
        device: where to run it; None leaves it to the kind of file.
        contract: what pictures it takes; None for the checkpoint, which takes any.
        batches: smallest and largest batch of its profile.
        quantisation: of an INT8 graph or engine.
    """

    path: Path
    name: str
    place: str
    precision: Precision
    device: str | None
    contract: Contract | None = None
    batches: tuple[int, int] = (1, 65535)
    quantisation: Quantisation | None = None

    @property
    def asked_precision(self) -> str | None:
        """What ``load_engine`` is told: a checkpoint runs in the precision that is asked for, files have theirs."""
        return str(self.precision) if self.path.suffix == ".pth" else None


@dataclass(frozen=True, kw_only=True)
class EngineResult:
    """One row of a report: what an engine did, or why it did not run.

    Attributes:
        name, path, place, sha256, precision, quantisation: of the engine.
        not_run: the reason; None for an engine that ran.
        suites: how it did, one entry a suite.
        gates: what it had to meet; the reference has none.
        speeds: one entry a batch size.
    """

    name: str
    path: Path
    place: str
    sha256: str
    precision: Precision
    quantisation: Quantisation | None = None
    not_run: str | None = None
    suites: tuple[SuiteResult, ...] = ()
    gates: tuple[Gate, ...] = ()
    speeds: tuple[Speed, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether it ran and a gate fails."""
        return any(gate.outcome is Outcome.FAILS for gate in self.gates)

    @property
    def undecided(self) -> bool:
        """Whether no gate fails, but the pictures are too few for one to hold."""
        return not self.failed and any(gate.outcome is Outcome.UNDECIDED for gate in self.gates)


@dataclass(kw_only=True)
class Verification:
    """Everything that a verification found.

    Attributes:
        engines: one row each; the first is the reference.
        scores: per engine name and suite, the scores on each test set.
        skipped: pictures that could not be judged, with the reason.
    """

    engines: list[EngineResult] = field(default_factory=list)
    scores: dict[tuple[str, str], list[tuple[str, Scores]]] = field(default_factory=dict)
    skipped: list[SkippedImage] = field(default_factory=list)

    @property
    def compared(self) -> list[EngineResult]:
        """The engines that ran beside the reference."""
        return [engine for engine in self.engines[1:] if engine.not_run is None]

    @property
    def passed(self) -> bool:
        """Whether an engine was compared and all gates hold; what was not run is neither passed nor failed."""
        return self.outcome is VerdictOutcome.PASSED

    @property
    def outcome(self) -> VerdictOutcome:
        """What all gates came to together."""
        if not self.compared:
            return VerdictOutcome.NOTHING
        if any(engine.failed for engine in self.compared):
            return VerdictOutcome.FAILED
        undecided = any(engine.undecided for engine in self.compared)
        return VerdictOutcome.UNDECIDED if undecided else VerdictOutcome.PASSED


def verify(
    workdir: Workdir,
    suites: Sequence[Suite],
    *,
    device: str = "cpu",
    strict: bool = False,
    batch: int = 32,
    speed_seconds: float = 1.0,
    limits: Budget | None = None,
    on_progress: Progress = lambda *_: None,
) -> Verification:
    """Score every engine of a workdir over suites and compare it with the checkpoint in PyTorch.

    Args:
        workdir: a folder that a checkpoint was exported into.
        suites: from ``load_suites``.
        device: where PyTorch and ONNX Runtime run: ``"cpu"`` or ``"cuda"``.
        strict: take a picture that cannot be read for an error instead of listing it.
        batch: pictures at a time.
        speed_seconds: least time for each speed figure; 0 measures none.
        limits: what FP16 and INT8 are held to, instead of their own limits.
        on_progress: called with what is done, how much, and of how much.

    Raises:
        ArtifactError: an artifact is damaged, stale or foreign.
        ContractError: an artifact was made for other pictures than a suite asks for.
        ImageError: a picture cannot be read, with ``strict``.
        SuiteError: of a test set no picture can be read, or only of one class.
        UnavailableError: the reference cannot run.
    """
    candidates = find_candidates(workdir, device)
    for candidate in candidates:
        for suite in suites:
            if candidate.contract is not None:
                check_contract(candidate.contract, Contract(size=suite.size), str(candidate.path))
    result = Verification()
    engines, reasons = _open_all(candidates)
    try:
        for suite in suites:
            _score_suite(suite, engines, result, batch, on_progress)
            if strict and result.skipped:
                first = result.skipped[0]
                raise ImageError(f"{first.path}: {first.reason} ({len(result.skipped)} such pictures; --strict)")
    finally:
        for engine in engines.values():
            engine.close()
    for done, candidate in enumerate(candidates):
        on_progress("measuring speed", done, len(candidates))
        result.engines.append(_describe(candidate, reasons.get(candidate.name), result, speed_seconds, limits))
    on_progress("measuring speed", len(candidates), len(candidates))
    return result


def find_candidates(workdir: Workdir, device: str) -> list[Candidate]:
    """The checkpoint, every graph and every engine of a workdir, each checked to be whole and of one origin.

    Raises:
        ArtifactError: one is damaged, foreign, or was made from another checkpoint or another graph.
    """
    found = [
        Candidate(
            path=workdir.require_checkpoint(),
            name=_named("pytorch fp32", device),
            place=f"pytorch on {device}",
            precision=Precision.FP32,
            device=device,
        )
    ]
    if device.startswith("cuda"):  # on a CPU autocast is slower than float32, and nobody's way to run it
        found.append(replace(found[0], name=_named("pytorch fp16", device), precision=Precision.FP16))
    graph_hashes = {}
    for path in workdir.graphs():
        graph = read_graph_info(path)
        recipe = None if graph.quantisation is None else graph.quantisation.recipe
        remedy = (
            "lfm-deploy export CHECKPOINT.pth"
            if path == workdir.graph(Precision.FP32)
            else build_command(graph.precision, recipe=recipe)
        )
        check_origin(path, graph.checkpoint_sha256, workdir, remedy)
        settings = find_settings(path) if device == "cpu" else None
        runtime = "onnxruntime" if settings is None else settings.runtime
        if recipe is not Recipe.CPU:
            graph_hashes[graph.precision] = sha256_of_file(path)  # engines are built from these
        found.append(
            Candidate(
                path=path,
                name=_named(f"{runtime} {graph.precision}{f' {recipe}' if recipe else ''}", device),
                place=f"{runtime} on {device}",
                precision=graph.precision,
                device=device,
                contract=graph.contract,
                quantisation=graph.quantisation,
            )
        )
    for path in workdir.engines():
        engine = read_engine_info(path)
        remedy = build_command(engine.precision, engine.gpu)
        check_origin(path, engine.checkpoint_sha256, workdir, remedy)
        if graph_hashes.get(engine.precision, engine.onnx_sha256) != engine.onnx_sha256:
            raise ArtifactError(f"{path}: stale: the ONNX file that it was built from has changed; run '{remedy}'")
        found.append(
            Candidate(
                path=path,
                name=f"{engine.runtime} {engine.precision} {engine.gpu}",
                place=f"{engine.runtime} on {engine.gpu}",
                precision=engine.precision,
                device=device if device.startswith("cuda") else None,
                contract=engine.contract,
                batches=(engine.batch[0], engine.batch[2]),
                quantisation=engine.quantisation,
            )
        )
    return found


def _named(name: str, device: str) -> str:
    return name if device == "cpu" else f"{name} {device}"


def _open_all(candidates: list[Candidate]) -> tuple[dict[str, Engine], dict[str, str]]:
    """Engines by name, and the reasons of those that cannot run here. The reference must run."""
    engines: dict[str, Engine] = {}
    reasons: dict[str, str] = {}
    for candidate in candidates:
        try:
            engines[candidate.name] = load_engine(
                candidate.path, device=candidate.device, spin=False, precision=candidate.asked_precision
            )
        except (UnavailableError, OtherGpuError) as error:
            if candidate is candidates[0]:
                raise
            reasons[candidate.name] = str(error)
    return engines, reasons


def _score_suite(
    suite: Suite, engines: dict[str, Engine], result: Verification, batch: int, on_progress: Progress
) -> None:
    """Decode each picture once and hand it to every engine."""
    total, done = sum(len(part.images) for part in suite.sets), 0
    config = next(iter(engines.values())).config
    for part in suite.sets:
        kept: list[int] = []
        logits: dict[str, list[NDArray[np.float32]]] = {name: [] for name in engines}
        for group in read_batches([image.path for image in part.images], suite.size, batch=batch, config=config):
            result.skipped.extend(group.skipped)
            if len(group.indices):
                kept.extend(group.indices)
                for name, engine in engines.items():
                    logits[name].append(engine.logits(group.images))
            done += len(group.indices) + len(group.skipped)
            on_progress(f"scoring {suite.name}", done, total)
        paths, labels = _readable(suite, part, kept)
        for name, parts in logits.items():
            scores = Scores(paths=paths, labels=labels, logits=np.concatenate(parts))
            result.scores.setdefault((name, suite.name), []).append((part.name, scores))


def _readable(suite: Suite, part: TestSet, kept: list[int]) -> tuple[tuple[Path, ...], NDArray[np.int64]]:
    """Paths and labels of the pictures that could be read."""
    labels = np.array([part.images[index].label for index in kept], dtype=np.int64)
    if len(set(labels.tolist())) < (2 if part.has_both_classes else 1):
        raise SuiteError(
            f"{suite.name}/{part.name}: of {len(part.images)} pictures {len(kept)} can be read, not of every class; "
            "look at the files with 'lfm-deploy verify --strict', which names the first"
        )
    return tuple(part.images[index].path for index in kept), labels


def _describe(
    candidate: Candidate, reason: str | None, found: Verification, speed_seconds: float, limits: Budget | None
) -> EngineResult:
    """One row: metrics, gates and speed of a candidate that ran, or the reason why it did not."""
    sha256 = sha256_of_file(candidate.path)
    if reason is not None:
        return EngineResult(
            name=candidate.name,
            path=candidate.path,
            place=candidate.place,
            sha256=sha256,
            precision=candidate.precision,
            quantisation=candidate.quantisation,
            not_run=reason,
        )
    suites, gates = _judge(candidate, found, limits)
    speeds: list[Speed] = []
    if speed_seconds:
        batches = [size for size in SPEED_BATCHES if candidate.batches[0] <= size <= candidate.batches[1]]
        side = 256 if candidate.contract is None or candidate.contract.size == "native" else candidate.contract.size
        speeds = measure_speed(
            candidate.path,
            batches,
            device=candidate.device,
            side=side,
            seconds=speed_seconds,
            precision=candidate.asked_precision,
        )
    return EngineResult(
        name=candidate.name,
        path=candidate.path,
        place=candidate.place,
        sha256=sha256,
        precision=candidate.precision,
        quantisation=candidate.quantisation,
        suites=suites,
        gates=gates,
        speeds=tuple(speeds),
    )


def _judge(
    candidate: Candidate, found: Verification, limits: Budget | None
) -> tuple[tuple[SuiteResult, ...], tuple[Gate, ...]]:
    """Metrics over each suite, and the gates of what is not the reference, which is described first."""
    threshold = (candidate.contract or Contract()).threshold
    scored = [(suite, scores) for (name, suite), scores in found.scores.items() if name == candidate.name]
    if not found.engines:
        return tuple(measure_suite(suite, scores, threshold) for suite, scores in scored), ()
    suites: list[SuiteResult] = []
    gates: list[Gate] = []
    for (suite, scores), reference in zip(scored, found.engines[0].suites, strict=True):
        suites.append(compare_suite(suite, scores, reference, threshold))
        gates += judge_suite(candidate.precision, suites[-1], reference.spread, candidate.quantisation, limits=limits)
    return tuple(suites), tuple(gates)
