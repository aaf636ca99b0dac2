"""The operating envelope as ``report.json`` has it, as types; figures are in per cent, None where undefined."""

from typing import Literal, TypedDict

from lfm_deploy.metrics.estimate import EstimateValues

SetFigureName = Literal["acc", "ap", "acc_fake", "fpr"]


class ReasonValues(TypedDict):
    """Why pictures were skipped after a condition.

    Attributes:
        reason: reason, in words.
        pictures: number of pictures that were skipped for it.
    """

    reason: str
    pictures: int


class SetFiguresValues(TypedDict):
    """One test set after one condition.

    Attributes:
        set: name of the test set.
        real: number of real pictures that were judged.
        fake: number of fakes that were judged.
        acc: accuracy.
        ap: average precision of the fake class.
        acc_fake: share of the fakes that are found.
        fpr: share of the real pictures that are called fake.
    """

    set: str
    real: int
    fake: int
    acc: EstimateValues | None
    ap: EstimateValues | None
    acc_fake: EstimateValues | None
    fpr: EstimateValues | None


class ConditionValues(TypedDict):
    """How an engine decided after one condition.

    Attributes:
        name: name of the condition, short and unique, such as ``"jpeg 90"``.
        what: sentence that says what was done, with every parameter.
        acc: accuracy, mean over the test sets that have both classes.
        acc_real: accuracy on real pictures, mean over the same test sets.
        acc_fake: share of the fakes that are found, mean over the same test sets.
        ap: average precision of the fake class, mean over the same test sets.
        fpr: share of all real pictures that are called fake, those of sets without fakes among them.
        pictures: number of pictures that were judged.
        skipped: number of pictures that were not judged after this condition.
        reasons: reasons for that, the most frequent first.
        sets: figures of each test set.
    """

    name: str
    what: str
    acc: EstimateValues | None
    acc_real: EstimateValues | None
    acc_fake: EstimateValues | None
    ap: EstimateValues | None
    fpr: EstimateValues | None
    pictures: int
    skipped: int
    reasons: list[ReasonValues]
    sets: list[SetFiguresValues]


class EnvelopeValues(TypedDict):
    """How an engine decided after each condition.

    Attributes:
        engine: name of the engine.
        suite: names of the suites whose pictures were used, with commas.
        encoders: versions of what made the changes, by name; None for one that is not there.
        cached: number of logits that were known from an earlier run.
        conditions: conditions in the order in which they were asked for; the first leaves pictures as they are.
    """

    engine: str
    suite: str
    encoders: dict[str, str | None]
    cached: int
    conditions: list[ConditionValues]
