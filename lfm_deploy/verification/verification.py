"""Do all engines make the checkpoint's decisions? Every engine of a workdir against PyTorch over suites.

    files, hashed once ─▶ scores of engines and detectors, envelope ─▶ speeds ─▶ rows ─▶ the result

Everything is scored before a row is made of it, so that nothing depends on which engine came first.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lfm_deploy.contract import Contract
from lfm_deploy.deployment.lineup import Candidate, find_candidates
from lfm_deploy.detectors.detector_scores import DetectorScores, check_names, open_all, score_detector
from lfm_deploy.errors import ImageError
from lfm_deploy.pictures.images import SkippedImage
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.quantisation import Budget
from lfm_deploy.scoring.score_cache import ScoreCache
from lfm_deploy.scoring.scorers import Scorer, plan_tasks, published_reading, run_tasks
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.scoring.suite_scores import SuiteTasks, collect_scores, find_in_both, make_scorer, make_tasks
from lfm_deploy.suites import Suite
from lfm_deploy.verification.aligned import measure_aligned
from lfm_deploy.verification.decoder_findings import DecoderFindings, JudgedDecoder, measure_decoder, open_judged
from lfm_deploy.verification.engine_rows import (
    EngineRun,
    decoder_row_name,
    describe_decoder,
    describe_detector,
    describe_engine,
    describe_reference,
)
from lfm_deploy.verification.envelope import check_pictures, choose_envelope_engine, measure_envelope
from lfm_deploy.verification.envelope_figures import Envelope
from lfm_deploy.verification.speeds import measure_speeds
from lfm_deploy.verification.storage_facts import describe_storage, find_proved_range
from lfm_deploy.verification.verification_result import EngineResult, Verification
from lfm_deploy.verification.verify_options import VerifyOptions
from lfm_deploy.workdir import Workdir

if TYPE_CHECKING:
    from lfm_deploy.detectors.foreign import ForeignDetector


def verify(
    workdir: Workdir,
    suites: Sequence[Suite],
    options: VerifyOptions | None = None,
    *,
    on_start: Callable[[], None] = lambda: None,
    on_warning: Callable[[str], None] = lambda _: None,
    on_progress: Progress = ignore_progress,
) -> Verification:
    """Score every engine of a workdir over suites and compare it with the checkpoint in PyTorch.

    Logits and speeds that are known from an earlier run come from ``scores.sqlite`` of the workdir; an engine is loaded
    only where a picture is new to it.

    Args:
        workdir: folder that a checkpoint was exported into.
        suites: suites from ``load_suites``.
        options: settings of the run; None is ``VerifyOptions()``.
        on_start: callback for the moment when all inputs were checked and scoring begins.
        on_warning: callback that gets lines for people.
        on_progress: callback that gets what is done, how much, and of how much.

    Raises:
        ArtifactError: an artifact is damaged, stale or foreign.
        BenchmarkError: a process that measures speed failed.
        CacheError: the cache cannot be read or written.
        ConfigError: no engine has the name that ``envelope_engine`` gives.
        ContractError: an artifact was made for other pictures than a suite asks for.
        DetectorError: the TOML file of a detector is bad, or contradicts its network.
        ImageError: a picture cannot be read, with ``strict``.
        SuiteError: a test set has no picture that can be judged, or lost one of its classes.
        UnavailableError: the reference, a decoder, a detector or the engine of the envelope cannot run here; or
            pictures are decoded or resized to other pixels on this machine than the contract's (DecoderError).
    """
    options = options or VerifyOptions()
    candidates = find_candidates(workdir, options.device, compiled=options.compiled)
    for candidate in candidates:
        check_pictures(candidate, suites)
    with ExitStack() as stack:
        opened = _open(stack, workdir, candidates, suites, options, on_warning)
        cache = opened.cache
        planned = [make_tasks(suite, published_reading(suite.size, options.batch), on_progress) for suite in suites]
        plan_tasks([task for one in planned for task in one.tasks], opened.scorers, cache)
        on_start()
        scores, skipped = _score_suites(planned, opened.scorers, cache, options.strict, on_progress)
        decoders = [measure_decoder(one, planned, opened.scorers[0], on_progress) for one in opened.decoders]
        foreign = [score_detector(one, planned, cache, options.batch, on_progress) for one in opened.detectors]
        envelope, aligned = _measure_treated(opened, planned, options, candidates[0].threshold, on_progress)
        runs = _finish(candidates, opened, scores, options.speed_seconds, on_progress)
    scores |= {
        (decoder_row_name(found.decoder.name), suite): parts
        for found in decoders
        for suite, parts in found.scores.items()
    }
    for detector, answers in zip(opened.detectors, foreign, strict=True):
        scores |= {(detector.name, suite): parts for suite, parts in answers.scores.items()}
        skipped += answers.skipped
    return Verification(
        engines=_describe_all(runs, decoders, opened.detectors, foreign, options.limits),
        scores=scores,
        skipped=tuple(skipped),
        suites=tuple(suites),
        in_both_classes=tuple(pair for one in planned for pair in find_in_both(one)),
        limits=options.limits,
        envelope=envelope,
        aligned=aligned,
        storage=describe_storage(suites, find_proved_range(workdir, envelope), on_progress),
        contract=next((one.contract for one in candidates if one.contract is not None), Contract()),
    )


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """What judges pictures and is judged: scorers, decoders, foreign detectors, and the engine of the envelope."""

    scorers: list[Scorer]
    decoders: list[JudgedDecoder]
    detectors: list["ForeignDetector"]
    envelope: Scorer | None
    cache: ScoreCache | None


def _open(
    stack: ExitStack,
    workdir: Workdir,
    candidates: Sequence[Candidate],
    suites: Sequence[Suite],
    options: VerifyOptions,
    on_warning: Callable[[str], None],
) -> _Opened:
    """Check what is to judge; all of it is closed with the stack."""
    envelope = None
    if options.envelope or options.aligned:
        chosen = choose_envelope_engine(workdir, candidates, suites, options.envelope_engine)
        envelope = make_scorer(chosen, required=True)
        stack.callback(envelope.close)
    detectors = open_all(options.detectors, options.device)
    for detector in detectors:
        stack.callback(detector.close)
    check_names(detectors, [candidate.name for candidate in candidates])
    scorers = [make_scorer(candidate, required=candidate is candidates[0]) for candidate in candidates]
    for scorer in scorers:
        stack.callback(scorer.close)
    cache = stack.enter_context(ScoreCache(workdir.score_cache, on_warning)) if options.use_cache else None
    decoders = [open_judged(name, options.device) for name in options.decoders]
    return _Opened(scorers=scorers, decoders=decoders, detectors=detectors, envelope=envelope, cache=cache)


def _score_suites(
    planned: Sequence[SuiteTasks],
    scorers: Sequence[Scorer],
    cache: ScoreCache | None,
    strict: bool,
    on_progress: Progress,
) -> tuple[dict[tuple[str, str], list[tuple[str, Scores]]], list[SkippedImage]]:
    """Scores by name of the engine and of the suite, and the pictures that could not be judged."""
    scores, skipped = dict[tuple[str, str], list[tuple[str, Scores]]](), list[SkippedImage]()
    for one in planned:
        run_tasks(one.tasks, scorers, cache, on_progress)
        of_suite, missed = collect_scores(one)
        scores |= {(name, one.suite.name): parts for name, parts in of_suite.items()}
        skipped += missed
        if strict and skipped:
            first = skipped[0]
            raise ImageError(f"{first.path}: {first.reason} ({len(skipped)} such pictures; --strict)")
    return scores, skipped


def _measure_treated(
    opened: _Opened, planned: Sequence[SuiteTasks], options: VerifyOptions, threshold: float, on_progress: Progress
) -> tuple[Envelope | None, Envelope | None]:
    """The operating envelope, and the figures of aligned fakes, as far as they were asked for."""
    if opened.envelope is None:
        return None, None
    asked: dict[str, Any] = {
        "threshold": threshold,
        "cache": opened.cache,
        "batch": options.batch,
        "on_progress": on_progress,
    }
    return (
        measure_envelope(opened.envelope, planned, **asked) if options.envelope else None,
        measure_aligned(opened.envelope, planned, **asked) if options.aligned else None,
    )


def _finish(
    candidates: Sequence[Candidate],
    opened: _Opened,
    scores: Mapping[tuple[str, str], list[tuple[str, Scores]]],
    seconds: float,
    on_progress: Progress,
) -> list[EngineRun]:
    """Close the engines, measure speeds in processes of their own, and put together what is known of each engine."""
    for one in [*opened.scorers, *([opened.envelope] if opened.envelope else [])]:
        one.close()
    ran = {one.name: one.identity for one in opened.scorers if one.not_run is None}
    speeds = measure_speeds(candidates, ran, opened.cache, seconds, on_progress)
    return [
        EngineRun(
            candidate=candidate,
            scores={suite: parts for (name, suite), parts in scores.items() if name == candidate.name},
            not_run=scorer.not_run,
            cached=scorer.cached,
            speeds=speeds.get(candidate.name, ()),
        )
        for candidate, scorer in zip(candidates, opened.scorers, strict=True)
    ]


def _describe_all(
    runs: Sequence[EngineRun],
    decoders: Sequence[DecoderFindings],
    detectors: Sequence["ForeignDetector"],
    foreign: Sequence[DetectorScores],
    limits: Budget | None,
) -> tuple[EngineResult, ...]:
    """The rows: the reference, the engines and decoders against it, the foreign detectors."""
    reference = describe_reference(runs[0])
    engines = [describe_engine(run, reference, limits) for run in runs[1:]]
    return (
        reference,
        *engines,
        *(describe_decoder(found, reference) for found in decoders),
        *(describe_detector(one, found) for one, found in zip(detectors, foreign, strict=True)),
    )
