"""From scores to the rows of a report: the reference by itself, engines against it, foreign detectors beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lfm_deploy.benchmark.benchmark import Speed
from lfm_deploy.deployment.lineup import Candidate
from lfm_deploy.detectors.detector_scores import DetectorScores
from lfm_deploy.metrics.gate import Gate
from lfm_deploy.quantisation import Budget
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.verification.comparison import SuiteResult, compare_suite, measure_suite, without_calibration
from lfm_deploy.verification.decoder_findings import DecoderFindings, judge_decoder
from lfm_deploy.verification.gates import judge_suite
from lfm_deploy.verification.speeds import find_memory
from lfm_deploy.verification.verification_result import EngineResult

if TYPE_CHECKING:
    from lfm_deploy.detectors.foreign import ForeignDetector


@dataclass(frozen=True, kw_only=True)
class EngineRun:
    """What was measured of an engine, before anything is made of it.

    Attributes:
        candidate: engine that was to run.
        scores: names of the test sets with the scores on each, by the name of a suite; empty where the engine did not
            run.
        not_run: reason why it did not run; None for an engine that ran.
        cached: number of its logits that were known from an earlier run.
        speeds: speeds, one entry a batch size.
    """

    candidate: Candidate
    scores: Mapping[str, Sequence[tuple[str, Scores]]]
    not_run: str | None = None
    cached: int = 0
    speeds: tuple[Speed, ...] = ()

    @property
    def threshold(self) -> float:
        """Threshold of the workdir's contract, a logit; above it is fake."""
        return self.candidate.threshold


def describe_reference(run: EngineRun) -> EngineResult:
    """The row that all engines are compared with; it has no gates.

    Args:
        run: measurements of the checkpoint in PyTorch.
    """
    band = run.candidate.uncertain_above
    suites = tuple(
        measure_suite(suite, scores, run.threshold, uncertain_above=band) for suite, scores in run.scores.items()
    )
    return replace(_describe(run), kind="reference", suites=suites)


def describe_engine(run: EngineRun, reference: EngineResult, limits: Budget | None) -> EngineResult:
    """The row of an engine: metrics and gates, or the reason why it did not run.

    Args:
        run: measurements of the engine.
        reference: row of the reference, over the same suites.
        limits: limits that replace those of FP16, BF16 and INT8; None leaves each its own.

    Raises:
        MetricError: engine and reference were scored on different pictures.
    """
    row = _describe(run)
    if run.not_run is not None:
        return row
    suites: list[SuiteResult] = []
    gates: list[Gate] = []
    candidate = run.candidate
    for (suite, scores), expected in zip(run.scores.items(), reference.suites, strict=True):
        suites.append(compare_suite(suite, scores, expected, run.threshold))
        gates += judge_suite(candidate.precision, suites[-1], expected.spread, candidate.quantisation, limits=limits)
    return replace(row, suites=tuple(suites), gates=tuple(gates))


def describe_detector(detector: "ForeignDetector", found: DetectorScores) -> EngineResult:
    """The row of a foreign detector, which has no gates.

    Args:
        detector: opened detector.
        found: scores of the detector over the suites.
    """
    # Its threshold was subtracted from its scores.
    suites = [measure_suite(suite, scores, 0.0) for suite, scores in found.scores.items()]
    return EngineResult(
        name=detector.name,
        kind="detector",
        path=detector.path,
        place=detector.place,
        sha256=detector.sha256,
        precision=detector.precision,
        suites=tuple(without_calibration(suite) if detector.threshold_logit else suite for suite in suites),
        cached=found.cached,
    )


def describe_decoder(found: DecoderFindings, reference: EngineResult) -> EngineResult:
    """The row of a decoder: the reference's decisions on its pixels, and its gates.

    Args:
        found: findings over the same suites.
        reference: row of the reference.
    """
    suites: list[SuiteResult] = []
    gates: list[Gate] = []
    for (suite, scores), expected in zip(found.scores.items(), reference.suites, strict=True):
        suites.append(compare_suite(suite, scores, expected, expected.threshold))
        gates += judge_decoder(found.pixels[suite], suites[-1])
    versions = {} if found.decoder.jpeg is None else found.decoder.jpeg.versions
    about = ", ".join(f"{name} {number}" for name, number in versions.items())
    return EngineResult(
        name=decoder_row_name(found.decoder.name),
        kind="decoder",
        path=reference.path,
        place=f"decoded on {found.place}{f' ({about})' if about else ''}, judged by {reference.place}",
        sha256=reference.sha256,
        precision=reference.precision,
        suites=tuple(suites),
        gates=tuple(gates),
        pixels=found.pixels,
    )


def decoder_row_name(decoder: str) -> str:
    """Name of a decoder's row in reports, which no engine has."""
    return f"decoder {decoder}"


def _describe(run: EngineRun) -> EngineResult:
    """What a row says of the engine itself."""
    candidate = run.candidate
    return EngineResult(
        name=candidate.name,
        path=candidate.path,
        place=candidate.place,
        sha256=sha256_of_file(candidate.path),
        precision=candidate.precision,
        quantisation=candidate.quantisation,
        not_run=run.not_run,
        speeds=run.speeds,
        cached=run.cached,
        memory=find_memory(candidate, run.speeds),
        kernels=candidate.kernels,
    )
