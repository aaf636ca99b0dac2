"""Do all engines make the checkpoint's decisions? Every engine of a workdir against PyTorch over suites."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lfm_deploy.atomic import sha256_of_file
from lfm_deploy.benchmark.benchmark import Speed
from lfm_deploy.contract import Contract, check_contract
from lfm_deploy.deployment.lineup import Candidate, find_candidates
from lfm_deploy.detectors.detector_scores import check_names, open_all, score_detector
from lfm_deploy.errors import ImageError
from lfm_deploy.metrics.gate import Gate, Outcome, VerdictOutcome
from lfm_deploy.pictures.images import SkippedImage
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.quantisation import Budget, Quantisation
from lfm_deploy.scoring.score_cache import ScoreCache
from lfm_deploy.scoring.scorers import Scorer, Task, plan_tasks, published_reading, run_tasks
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.scoring.suite_scores import InBothClasses, collect_scores, find_in_both, make_scorer, make_tasks
from lfm_deploy.suites import Suite
from lfm_deploy.verification.comparison import SuiteResult, compare_suite, measure_suite, without_calibration
from lfm_deploy.verification.envelope import find_envelope_engine, measure_envelope
from lfm_deploy.verification.envelope_figures import Envelope
from lfm_deploy.verification.gates import judge_suite
from lfm_deploy.verification.speeds import MemoryUse, compare_with_pytorch, find_memory, find_speeds
from lfm_deploy.workdir import Workdir

if TYPE_CHECKING:
    from lfm_deploy.detectors.foreign import ForeignDetector


@dataclass(frozen=True, kw_only=True)
class EngineResult:
    """One row of a report: what an engine did, or why it did not run.

    Attributes:
        name, path, place, sha256, precision, quantisation: of the engine; a foreign detector's precision is its own.
        kind: ``"reference"``, ``"engine"``, or ``"detector"`` for a foreign one, which has no gates.
        not_run: the reason; None for an engine that ran.
        suites: how it did, one entry a suite.
        gates: what it had to meet; the reference has none.
        speeds: one entry a batch size.
        cached: how many of its logits were known from an earlier run.
        memory: what it takes; None where that is not known.
    """

    name: str
    path: Path
    place: str
    sha256: str
    precision: str
    kind: str = "engine"
    quantisation: Quantisation | None = None
    not_run: str | None = None
    suites: tuple[SuiteResult, ...] = ()
    gates: tuple[Gate, ...] = ()
    speeds: tuple[Speed, ...] = ()
    cached: int = 0
    memory: MemoryUse | None = None

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
        suites: what was scored.
        in_both_classes: files that a suite has under both labels.
        limits: what FP16 and INT8 were held to; None for what each has by itself.
        envelope: what is left of an engine's accuracy after other treatments of the pictures; None if not asked for.
    """

    engines: list[EngineResult] = field(default_factory=list)
    scores: dict[tuple[str, str], list[tuple[str, Scores]]] = field(default_factory=dict)
    skipped: list[SkippedImage] = field(default_factory=list)
    suites: list[Suite] = field(default_factory=list)
    in_both_classes: list[InBothClasses] = field(default_factory=list)
    limits: Budget | None = None
    envelope: Envelope | None = None

    @property
    def compared(self) -> list[EngineResult]:
        """The engines that ran beside the reference."""
        return [engine for engine in self.engines if engine.kind == "engine" and engine.not_run is None]

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
    detectors: Sequence[Path] = (),
    envelope: bool = False,
    envelope_engine: str | None = None,
    use_cache: bool = True,
    on_start: Callable[[], None] = lambda: None,
    on_warning: Callable[[str], None] = lambda _: None,
    on_progress: Progress = ignore_progress,
) -> Verification:
    """Score every engine of a workdir over suites and compare it with the checkpoint in PyTorch.

    Logits and speeds that are known from an earlier run come from ``scores.sqlite`` of the workdir; an engine is loaded
    only where a picture is new to it.

    Args:
        workdir: a folder that a checkpoint was exported into.
        suites: from ``load_suites``.
        device: where PyTorch and ONNX Runtime run: ``"cpu"`` or ``"cuda"``.
        strict: take a picture that cannot be read for an error instead of listing it.
        batch: pictures at a time.
        speed_seconds: least time for each speed figure; 0 measures none.
        limits: what FP16 and INT8 are held to; None is what each has by itself.
        detectors: TOML files of foreign detectors to put beside the engines.
        envelope: measure how one engine decides after other treatments of the pictures, too.
        envelope_engine: its name; None is the FP32 graph.
        use_cache: False computes and measures everything, and keeps nothing.
        on_start: called when all inputs were checked and scoring begins.
        on_warning: takes lines for people.
        on_progress: called with what is done, how much, and of how much.

    Raises:
        ArtifactError: an artifact is damaged, stale or foreign.
        CacheError: the cache cannot be read or written.
        ConfigError: no engine is called ``envelope_engine``.
        ContractError: an artifact was made for other pictures than a suite asks for.
        DetectorError: the TOML file of a detector is bad, or contradicts its network.
        ImageError: a picture cannot be read, with ``strict``.
        SuiteError: of a test set no picture can be read, or only of one class.
        UnavailableError: the reference cannot run.
    """
    candidates = find_candidates(workdir, device)
    for candidate in candidates:
        for suite in suites:
            if candidate.contract is not None:
                check_contract(candidate.contract, Contract(size=suite.size), str(candidate.path))
    result = Verification(suites=list(suites), limits=limits)
    chosen = find_envelope_engine(workdir, suites, envelope_engine, device) if envelope else None
    with ExitStack() as stack:
        foreign = open_all(detectors, device)
        for detector in foreign:
            stack.callback(detector.close)
        check_names(foreign, [candidate.name for candidate in candidates])
        cache = stack.enter_context(ScoreCache(workdir.score_cache, on_warning)) if use_cache else None
        scorers = [make_scorer(candidate, required=candidate is candidates[0]) for candidate in candidates]
        for scorer in scorers:
            stack.callback(scorer.close)
        tasks = [make_tasks(suite, published_reading(suite.size, batch), on_progress) for suite in suites]
        result.in_both_classes += [
            pair for suite, of_suite in zip(suites, tasks, strict=True) for pair in find_in_both(suite, of_suite)
        ]
        plan_tasks([task for of_suite in tasks for task in of_suite], scorers, cache)
        on_start()
        for suite, of_suite in zip(suites, tasks, strict=True):
            run_tasks(of_suite, scorers, cache, on_progress)
            scores, skipped = collect_scores(suite, of_suite)
            result.scores |= {(name, suite.name): parts for name, parts in scores.items()}
            result.skipped += skipped
            if strict and result.skipped:
                first = result.skipped[0]
                raise ImageError(f"{first.path}: {first.reason} ({len(result.skipped)} such pictures; --strict)")
        for detector in foreign:
            result.engines.append(_describe_detector(detector, result, tasks, cache, batch, on_progress))
        rows, result.engines = result.engines, []
        if chosen is not None:
            scorer = make_scorer(chosen, required=True)
            stack.callback(scorer.close)
            result.envelope = measure_envelope(scorer, suites, cache=cache, batch=batch, on_progress=on_progress)
        for scorer in scorers:
            scorer.close()
        _describe_all(candidates, scorers, result, cache, speed_seconds, on_progress)
        result.engines += rows
    return result


def _describe_detector(
    detector: "ForeignDetector",
    result: Verification,
    tasks: Sequence[Sequence[Task]],
    cache: ScoreCache | None,
    batch: int,
    on_progress: Progress,
) -> EngineResult:
    """One row: what a foreign detector makes of every suite."""
    suites, cached = [], 0
    for suite, of_suite in zip(result.suites, tasks, strict=True):
        scores, skipped, known = score_detector(detector, suite, of_suite, cache, batch, on_progress)
        result.scores[detector.name, suite.name] = scores
        result.skipped += skipped
        measured = measure_suite(suite.name, scores, 0.0)  # its threshold is subtracted from its scores
        suites.append(without_calibration(measured) if detector.threshold_logit else measured)
        cached += known
    return EngineResult(
        name=detector.name,
        kind="detector",
        path=detector.path,
        place=detector.place,
        sha256=detector.sha256,
        precision=detector.precision,
        suites=tuple(suites),
        cached=cached,
    )


def _describe_all(
    candidates: Sequence[Candidate],
    scorers: Sequence[Scorer],
    result: Verification,
    cache: ScoreCache | None,
    speed_seconds: float,
    on_progress: Progress,
) -> None:
    """A row for each candidate: what it decided, how fast it is, and what memory it takes."""
    reference = candidates[0]
    for done, (candidate, scorer) in enumerate(zip(candidates, scorers, strict=True)):
        on_progress("measuring speed", done, len(candidates))
        row = _describe(candidate, scorer.not_run, result)
        speeds: Sequence[Speed] = ()
        if speed_seconds and scorer.not_run is None:
            speeds = find_speeds(candidate, scorer.identity, cache, speed_seconds)
            same_place = candidate.device == reference.device
            pytorch = () if not same_place else result.engines[0].speeds if result.engines else speeds
            speeds = compare_with_pytorch(speeds, pytorch)
        row = replace(row, cached=scorer.cached, memory=find_memory(candidate, speeds), speeds=tuple(speeds))
        result.engines.append(row)
    on_progress("measuring speed", len(candidates), len(candidates))


def _describe(candidate: Candidate, reason: str | None, found: Verification) -> EngineResult:
    """One row: metrics and gates of a candidate that ran, or the reason why it did not."""
    row = EngineResult(
        name=candidate.name,
        kind="engine" if found.engines else "reference",
        path=candidate.path,
        place=candidate.place,
        sha256=sha256_of_file(candidate.path),
        precision=candidate.precision,
        quantisation=candidate.quantisation,
        not_run=reason,
    )
    if reason is not None:
        return row
    suites, gates = _judge(candidate, found)
    return replace(row, suites=suites, gates=gates)


def _judge(candidate: Candidate, found: Verification) -> tuple[tuple[SuiteResult, ...], tuple[Gate, ...]]:
    """Metrics over each suite, and the gates of what is not the reference, which is described first."""
    threshold = (candidate.contract or Contract()).threshold
    scored = [(suite, scores) for (name, suite), scores in found.scores.items() if name == candidate.name]
    if not found.engines:
        return tuple(measure_suite(suite, scores, threshold) for suite, scores in scored), ()
    suites: list[SuiteResult] = []
    gates: list[Gate] = []
    for (suite, scores), reference in zip(scored, found.engines[0].suites, strict=True):
        suites.append(compare_suite(suite, scores, reference, threshold))
        gates += judge_suite(
            candidate.precision, suites[-1], reference.spread, candidate.quantisation, limits=found.limits
        )
    return tuple(suites), tuple(gates)
