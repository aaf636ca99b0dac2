"""The files of a workdir that a model card is made from, read back and held against one another."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.contract import Contract
from lfm_deploy.deployment.inspection import inspect_artifact
from lfm_deploy.errors import ArtifactError
from lfm_deploy.prediction.proved_range import FORMAT as ENVELOPE_FORMAT
from lfm_deploy.report.document import FORMAT as REPORT_FORMAT
from lfm_deploy.report.schema import MadeValues, Report
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.storage.values import Reader
from lfm_deploy.thresholds.threshold_values import FORMAT as THRESHOLD_FORMAT
from lfm_deploy.thresholds.threshold_values import ThresholdValues
from lfm_deploy.verification.envelope_values import EnvelopeValues
from lfm_deploy.workdir import Workdir

_VERIFY = "lfm-deploy verify --suite SUITE"
# A report of a hundred thousand pictures whose decisions all flipped stays below that.
_MOST_BYTES = 256 << 20

T = TypeVar("T")


class EnvelopeFile(TypedDict):
    """The whole of ``envelope.json``.

    Attributes:
        format: name and number of this format.
        checkpoint_sha256: SHA-256 of the checkpoint that was measured.
        threshold: logit above which a picture was called fake.
        made: time of the measurement, and the command that made it.
        envelope: figures after each treatment.
    """

    format: str
    checkpoint_sha256: str
    threshold: float
    made: MadeValues
    envelope: EnvelopeValues


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSources:
    """All that a model card states.

    Attributes:
        report: report of the last verification.
        checkpoint: facts of the checkpoint, from ``inspect_artifact``.
        contract: contract of the exported graph.
        threshold: threshold that was chosen, with its figures; None where nobody chose one.
        envelope: operating envelope, of this or an earlier verification; None where it was never measured.
    """

    report: Report
    checkpoint: Mapping[str, Any]
    contract: Contract
    threshold: ThresholdValues | None
    envelope: EnvelopeValues | None


def read_sources(workdir: Workdir) -> CardSources:
    """Read the files of a workdir, and refuse those that belong to another checkpoint or threshold.

    Args:
        workdir: folder of the deployment.

    Raises:
        ArtifactError: nothing was exported or verified here, or a file is damaged or stale.
    """
    checkpoint = inspect_artifact(workdir.require_checkpoint())
    contract = read_graph_info(workdir.graph(Precision.FP32)).contract
    report = _read_report(workdir, contract)
    threshold = _read(workdir.threshold, THRESHOLD_FORMAT, ThresholdValues, "lfm-deploy threshold PICTURES --fpr 1%")
    if threshold is not None and threshold["origin"]["checkpoint_sha256"] != checkpoint["sha256"]:
        threshold = None  # what it says is of another detector; the contract has none of it either
    envelope = _read(workdir.envelope, ENVELOPE_FORMAT, EnvelopeFile, f"{_VERIFY} --envelope")
    if envelope is not None and envelope["checkpoint_sha256"] != checkpoint["sha256"]:
        envelope = None
    return CardSources(
        report=report,
        checkpoint=checkpoint,
        contract=contract,
        threshold=threshold if contract.chosen is not None else None,
        envelope=None if envelope is None else envelope["envelope"],
    )


def _read_report(workdir: Workdir, contract: Contract) -> Report:
    report = _read(workdir.report, REPORT_FORMAT, Report, _VERIFY)
    if report is None:
        raise ArtifactError(f"{workdir.report}: no such file, and a card states what was verified; run '{_VERIFY}'")
    changed = [
        engine["file"]
        for engine in report["engines"]
        if engine["kind"] != "detector" and _sha256(workdir.path / engine["file"]) != engine["sha256"]
    ]
    if changed:
        raise ArtifactError(f"{workdir.report}: stale: {', '.join(changed)} changed since; run '{_VERIFY}' again")
    if report["threshold"] != contract.threshold:
        raise ArtifactError(f"{workdir.report}: stale: judged at another threshold; run '{_VERIFY}' again")
    return report


def _read(path: Path, form: str, kind: type[T], remedy: str) -> T | None:
    """The values of a file of ours; None where it is missing."""
    if not path.is_file():
        return None
    reader = Reader(where=str(path), remedy=f"run '{remedy}' again")
    values = reader.read_json(path, _MOST_BYTES)
    reader.take_format(values, form)
    return reader.convert(values | {"format": form}, kind, defaults=True)


def _sha256(path: Path) -> str | None:
    return sha256_of_file(path) if path.is_file() else None
