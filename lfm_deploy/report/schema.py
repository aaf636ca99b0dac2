"""What ``report.json`` says, as types: ``document`` makes it, every view reads it, and so may your program.

The parts that engines have are in ``engine_schema``; how INT8 graphs came about in ``calib.findings_schema``; the
operating envelope in ``verification.envelope_values``; the paper's tables in ``suites.published``. Shares, accuracies
and average precision are in per cent, their changes in percentage points, thresholds are logits. What has no finite
value is null; no key is ever missing but where ``NotRequired`` says so.
"""

from typing import Any, TypedDict

from calib.findings_schema import DescribedFindings
from lfm_deploy.contract import SizePolicy
from lfm_deploy.environment import EnvironmentValues
from lfm_deploy.quantisation import BudgetValues
from lfm_deploy.report.engine_schema import EngineValues
from lfm_deploy.suites.confounders import ConfounderValues
from lfm_deploy.suites.published import PublishedValues
from lfm_deploy.verification.envelope_values import EnvelopeValues


class Report(TypedDict):
    """Everything that a verification found: the whole of ``report.json``.

    Attributes:
        format: name and number of this format; another number is another schema.
        made: time of the report, and the command that made it.
        verdict: verdict of all gates together.
        device: device that PyTorch and ONNX Runtime ran on, such as ``"cpu"`` or ``"cuda:0"``.
        threshold: logit above which a picture is called fake.
        uncertain_above: logit above which, up to the threshold, no verdict is given; None without such a band.
        threshold_origin: pictures and rates that the threshold was chosen by; None for one that nobody chose.
        limits: allowance that FP16, BF16 and INT8 were held to; None for what each has by itself.
        statistics: method of the intervals.
        suites: suites that were judged.
        group: paper's figures for a group of suites; None where no whole group was judged.
        engines: engines, the reference first.
        envelope: figures after other treatments of the pictures; None where that was not asked for.
        aligned: figures in two conditions: as files are stored, and with fakes stored as the real pictures of their
            set; None where that was not asked for.
        advice: sentences that say which precision to ship, one for each device where several ran.
        quantisation: origin of the INT8 graphs, by recipe: ``"tensorrt"``, ``"cpu"``.
        skipped: pictures that could not be judged.
        environment: machine and libraries that the figures depend on.
    """

    format: str
    made: "MadeValues"
    verdict: "VerdictValues"
    device: str
    threshold: float
    uncertain_above: float | None
    threshold_origin: dict[str, Any] | None
    limits: BudgetValues | None
    statistics: "StatisticsValues"
    suites: list["SuiteValues"]
    group: "GroupValues | None"
    engines: list[EngineValues]
    envelope: EnvelopeValues | None
    aligned: EnvelopeValues | None
    advice: list[str]
    quantisation: dict[str, DescribedFindings]
    skipped: list["SkippedValues"]
    environment: EnvironmentValues


class MadeValues(TypedDict):
    """When a report was made, and by which command.

    Attributes:
        at: time in UTC and ISO 8601, to the second, ending in ``Z``.
        command: words of the command line.
    """

    at: str
    command: list[str]


class VerdictValues(TypedDict):
    """What all gates came to together.

    Attributes:
        outcome: ``"passed"``; ``"failed"``; ``"undecided"`` where pictures are too few for a gate; ``"nothing"`` where
            no engine ran beside the reference.
        passed: whether the outcome is ``"passed"``.
        text: verdict in one line, for people.
        threshold: threshold that gates judge decisions at, in one line, for people.
        not_run: names of the engines that did not run.
    """

    outcome: str
    passed: bool
    text: str
    threshold: str
    not_run: list[str]


class StatisticsValues(TypedDict):
    """How the intervals were made.

    Attributes:
        rounds: number of resamplings.
        seed: seed of the resampling.
        confidence: confidence of the intervals, in per cent.
    """

    rounds: int
    seed: int
    confidence: int


class SuiteValues(TypedDict):
    """One suite as it was judged.

    Attributes:
        name: name of the suite.
        size: side of the squares that pictures were resized to, in pixels; or ``"native"``.
        pictures: number of pictures that could be read.
        sets: test sets with their pictures that could be read.
        published: paper's figures for it; None where there are none.
        in_both_classes: pictures that lie among the real and among the fake ones.
        confounders: properties of files by which the classes differ.
        outside: number of pictures that are outside of what the detector was proved on; None where no envelope was
            measured.
    """

    name: str
    size: SizePolicy
    pictures: int
    sets: list["SetValues"]
    published: PublishedValues | None
    in_both_classes: list["PairValues"]
    confounders: list[ConfounderValues]
    outside: int | None


class SetValues(TypedDict):
    """One test set.

    Attributes:
        name: name of the test set.
        real: number of real pictures.
        fake: number of fakes.
    """

    name: str
    real: int
    fake: int


class PairValues(TypedDict):
    """One picture that is real and fake at once, so that one of the labels is wrong.

    Attributes:
        sha256: SHA-256 of both files, in hexadecimal.
        real: file among the real pictures.
        fake: file among the fakes.
    """

    sha256: str
    real: str
    fake: str


class GroupValues(TypedDict):
    """The paper's figures for a group of suites.

    Attributes:
        name: name of the group: ``"gan"``, ``"diffusion"`` or ``"all"``.
        published: paper's figures, a column a suite.
    """

    name: str
    published: PublishedValues


class SkippedValues(TypedDict):
    """One picture that could not be judged.

    Attributes:
        path: file of the picture.
        reason: reason, in words.
    """

    path: str
    reason: str


class ScoreRow(TypedDict):
    """One logit: a line of ``scores.csv``.

    Attributes:
        engine: name of the engine.
        suite: name of the suite.
        set: name of the test set.
        category: category of the picture; None where it has none, which is empty in the file.
        path: file of the picture.
        label: label of the picture: 0 is real, 1 is fake.
        logit: logit of the picture, a float32 number; above the threshold is fake.
        notes: facts of the file, with ``"; "`` between them, as ``predict`` has them.
    """

    engine: str
    suite: str
    set: str
    category: str | None
    path: str
    label: int
    logit: float
    notes: str
