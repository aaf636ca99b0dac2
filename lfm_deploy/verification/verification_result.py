"""What a verification found: a row for each engine, and the verdict of all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lfm_deploy.benchmark.benchmark import Speed
from lfm_deploy.contract import Contract
from lfm_deploy.deployment.kernel_table import KernelTableValues
from lfm_deploy.metrics.gate import Gate, Outcome, VerdictOutcome
from lfm_deploy.pictures.images import SkippedImage
from lfm_deploy.quantisation import Budget, Quantisation
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.scoring.suite_scores import InBothClasses
from lfm_deploy.suites import Suite
from lfm_deploy.verification.comparison import SuiteResult
from lfm_deploy.verification.decoder_findings import PixelFindings
from lfm_deploy.verification.envelope_figures import Envelope
from lfm_deploy.verification.speeds import MemoryUse
from lfm_deploy.verification.storage_facts import SuiteStorage


@dataclass(frozen=True, kw_only=True)
class EngineResult:
    """One row of a report: what an engine did, or why it did not run.

    Attributes:
        name: name in reports, unique among the rows.
        path: file of the engine, or of a foreign detector's network.
        place: runtime and device in words, such as ``"onnxruntime on cpu"``.
        sha256: hex digest of the file.
        precision: precision of the arithmetic; a foreign detector's is ``"as written"`` in its network.
        kind: ``"reference"``, ``"engine"``, ``"decoder"`` for the reference on pictures that another decoder than
            Pillow decoded, or ``"detector"`` for a foreign one, which has no gates.
        quantisation: choices that an INT8 engine was made with; None for others.
        not_run: reason why it did not run; None for an engine that ran.
        suites: results, one entry a suite, in the order of the suites.
        gates: gates that it had to meet over all suites; the reference and foreign detectors have none.
        speeds: speeds, one entry a batch size.
        cached: number of its logits that were known from an earlier run.
        memory: memory that it takes; None where that is not known.
        kernels: kernels of a TensorRT engine at best; None where its library lists none.
        pixels: differences of a decoder's pixels from Pillow's, by the name of a suite; empty for all others.
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
    kernels: KernelTableValues | None = None
    pixels: Mapping[str, PixelFindings] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it ran and a gate fails."""
        return any(gate.outcome is Outcome.FAILS for gate in self.gates)

    @property
    def undecided(self) -> bool:
        """Whether no gate fails, but the pictures are too few for one to hold."""
        return not self.failed and any(gate.outcome is Outcome.UNDECIDED for gate in self.gates)


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Everything that a verification found.

    Attributes:
        engines: rows: the reference first, then the engines, decoders, and foreign detectors.
        scores: scores by name of the engine and of the suite: the names of the suite's test sets with the scores on
            each.
        skipped: pictures that could not be judged, with the reason.
        suites: suites that were scored.
        in_both_classes: files that a suite has under both labels.
        limits: limits that FP16, BF16 and INT8 were held to; None for what each has by itself.
        envelope: figures of an engine after other treatments of the pictures; None if not asked for.
        aligned: figures of an engine as files are stored, and with fakes stored as the real pictures of their set; None
            if not asked for.
        storage: facts on how the files of each suite are stored, by its name.
        contract: contract of the workdir's artifacts, by whose threshold all decided.
    """

    engines: tuple[EngineResult, ...]
    scores: Mapping[tuple[str, str], Sequence[tuple[str, Scores]]] = field(default_factory=dict)
    skipped: tuple[SkippedImage, ...] = ()
    suites: tuple[Suite, ...] = ()
    in_both_classes: tuple[InBothClasses, ...] = ()
    limits: Budget | None = None
    envelope: Envelope | None = None
    aligned: Envelope | None = None
    storage: Mapping[str, SuiteStorage] = field(default_factory=dict)
    contract: Contract = field(default_factory=Contract)

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
        if not self.compared and not any(engine.failed for engine in self.engines):
            return VerdictOutcome.NOTHING
        if any(engine.failed for engine in self.engines):
            return VerdictOutcome.FAILED
        undecided = any(engine.undecided for engine in self.compared)
        return VerdictOutcome.UNDECIDED if undecided else VerdictOutcome.PASSED
