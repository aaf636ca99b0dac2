"""Do all engines make the checkpoint's decisions? Every engine of a workdir against PyTorch over suites."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from lfm_deploy.artifacts import Precision
from lfm_deploy.atomic import sha256_of_file
from lfm_deploy.benchmark import Speed
from lfm_deploy.comparison import Gate, Scores, SuiteResult, compare_suite, judge_suite
from lfm_deploy.contract import Contract, check_contract
from lfm_deploy.errors import ImageError
from lfm_deploy.images import SkippedImage
from lfm_deploy.lineup import Candidate, find_candidates
from lfm_deploy.quantisation import Budget, Quantisation
from lfm_deploy.score_cache import ScoreCache
from lfm_deploy.scorers import Progress, Scorer, plan_tasks, published_reading, run_tasks
from lfm_deploy.speeds import MemoryUse, compare_with_pytorch, find_memory, find_speeds
from lfm_deploy.suite_scores import InBothClasses, collect_scores, find_in_both, make_scorer, make_tasks
from lfm_deploy.suites import Suite
from lfm_deploy.workdir import Workdir


@dataclass(frozen=True, kw_only=True)
class EngineResult:
    """One row of a report: what an engine did, or why it did not run.

    Attributes:
        name, path, place, sha256, precision, quantisation: of the engine.
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
    precision: Precision
    quantisation: Quantisation | None = None
    not_run: str | None = None
    suites: tuple[SuiteResult, ...] = ()
    gates: tuple[Gate, ...] = ()
    speeds: tuple[Speed, ...] = ()
    cached: int = 0
    memory: MemoryUse | None = None

    @property
    def failed(self) -> bool:
        """Whether it ran and a gate does not hold."""
        return any(not gate.passed for gate in self.gates)


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
    """

    engines: list[EngineResult] = field(default_factory=list)
    scores: dict[tuple[str, str], list[tuple[str, Scores]]] = field(default_factory=dict)
    skipped: list[SkippedImage] = field(default_factory=list)
    suites: list[Suite] = field(default_factory=list)
    in_both_classes: list[InBothClasses] = field(default_factory=list)
    limits: Budget | None = None

    @property
    def categories(self) -> dict[tuple[str, str], dict[Path, str]]:
        """Per suite and test set, the categories of its pictures; empty for a set without any."""
        return {
            (suite.name, part.name): {i.path: i.category for i in part.images if i.category is not None}
            for suite in self.suites
            for part in suite.sets
        }

    @property
    def compared(self) -> list[EngineResult]:
        """The engines that ran beside the reference."""
        return [engine for engine in self.engines[1:] if engine.not_run is None]

    @property
    def passed(self) -> bool:
        """Whether an engine was compared and none failed; what was not run is neither passed nor failed."""
        return bool(self.compared) and not any(engine.failed for engine in self.compared)


def verify(
    workdir: Workdir,
    suites: Sequence[Suite],
    *,
    device: str = "cpu",
    strict: bool = False,
    batch: int = 32,
    speed_seconds: float = 1.0,
    limits: Budget | None = None,
    use_cache: bool = True,
    on_start: Callable[[], None] = lambda: None,
    on_warning: Callable[[str], None] = lambda _: None,
    on_progress: Progress = lambda *_: None,
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
        use_cache: False computes and measures everything, and keeps nothing.
        on_start: called when all inputs were checked and scoring begins.
        on_warning: takes lines for people.
        on_progress: called with what is done, how much, and of how much.

    Raises:
        ArtifactError: an artifact is damaged, stale or foreign.
        CacheError: the cache cannot be read or written.
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
    result = Verification(suites=list(suites), limits=limits)
    with ExitStack() as stack:
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
        for scorer in scorers:
            scorer.close()
        _describe_all(candidates, scorers, result, cache, speed_seconds, on_progress)
    return result


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
        row = _describe(candidate, scorer.not_run, result, reference.name, result.limits)
        speeds: Sequence[Speed] = ()
        if speed_seconds and scorer.not_run is None:
            speeds = find_speeds(candidate, scorer.identity, cache, speed_seconds)
            same_place = candidate.device == reference.device
            pytorch = () if not same_place else result.engines[0].speeds if result.engines else speeds
            speeds = compare_with_pytorch(speeds, pytorch)
        row = replace(row, cached=scorer.cached, memory=find_memory(candidate, speeds), speeds=tuple(speeds))
        result.engines.append(row)
    on_progress("measuring speed", len(candidates), len(candidates))


def _describe(
    candidate: Candidate, reason: str | None, found: Verification, reference: str, limits: Budget | None
) -> EngineResult:
    """One row: metrics and gates of a candidate that ran, or the reason why it did not."""
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
    threshold = (candidate.contract or Contract()).threshold
    suites: list[SuiteResult] = []
    gates: list[Gate] = []
    for (name, suite), scores in found.scores.items():
        if name == candidate.name:
            expected = found.scores[reference, suite]
            suites.append(compare_suite(suite, scores, expected, threshold))
            if name != reference:
                judged = compare_suite(suite, expected, expected, threshold)
                gates.extend(judge_suite(candidate.precision, suites[-1], judged, candidate.quantisation))
    return EngineResult(
        name=candidate.name,
        path=candidate.path,
        place=candidate.place,
        sha256=sha256,
        precision=candidate.precision,
        quantisation=candidate.quantisation,
        suites=tuple(suites),
        gates=tuple(gates),
    )
