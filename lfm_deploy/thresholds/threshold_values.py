"""``threshold.json``: a threshold with its origin and its figures, as plain values; shares are in per cent."""

from dataclasses import asdict
from typing import Any, Literal, TypedDict

from lfm_deploy.contract import ThresholdOrigin
from lfm_deploy.metrics.estimate import EstimateValues
from lfm_deploy.thresholds.choice import Share, Shares, ThresholdChoice

FORMAT = "lfm-deploy threshold 1"

VerdictName = Literal["real_called_fake", "real_uncertain", "fake_called_fake", "fake_uncertain", "fake_called_real"]
# In the order of tables: key, class and verdict in words.
VERDICTS: tuple[tuple[VerdictName, str, str], ...] = (
    ("real_called_fake", "real", "called fake"),
    ("real_uncertain", "real", "uncertain"),
    ("fake_called_fake", "fake", "found"),
    ("fake_uncertain", "fake", "uncertain"),
    ("fake_called_real", "fake", "called real"),
)


class ShareValues(TypedDict):
    """How many pictures of a class get a verdict.

    Attributes:
        found: number of pictures that get it.
        pictures: number of pictures of the class.
        share: share with its exact 95 % interval, in per cent.
        bound: largest share that is possible with 95 % confidence (one-sided), in per cent.
    """

    found: int
    pictures: int
    share: EstimateValues
    bound: float


class SharesValues(TypedDict):
    """What becomes of pictures at a threshold; None where there is no picture of the class.

    Attributes:
        name: name of the group; empty for all pictures.
        real_called_fake: real pictures above the threshold.
        fake_called_fake: fakes above the threshold.
        fake_called_real: fakes at or below the band, or, without one, the threshold.
        real_uncertain: real pictures within the band.
        fake_uncertain: fakes within the band.
    """

    name: str
    real_called_fake: ShareValues | None
    fake_called_fake: ShareValues | None
    fake_called_real: ShareValues | None
    real_uncertain: ShareValues | None
    fake_uncertain: ShareValues | None


class ThresholdValues(TypedDict):
    """The whole of ``threshold.json``.

    Attributes:
        format: name and number of this format.
        threshold: logit above which a picture is called fake.
        uncertain_above: logit above which, up to the threshold, no verdict is given; None without a band.
        origin: pictures and rates that it was chosen by, as every artifact has them.
        engine: file name of the graph that scored the pictures.
        need: fewest real pictures that can show the rate.
        all: figures of all pictures.
        at_zero: figures of all pictures at the threshold 0.
        groups: figures of each group; empty where there are none.
        worst: name of the group of whose real pictures the largest share is called fake; None without groups.
    """

    format: str
    threshold: float
    uncertain_above: float | None
    origin: dict[str, Any]
    engine: str
    need: int
    all: SharesValues
    at_zero: SharesValues
    groups: list[SharesValues]
    worst: str | None


def describe_choice(choice: ThresholdChoice, origin: ThresholdOrigin, engine: str) -> ThresholdValues:
    """A threshold as plain values for JSON.

    Args:
        choice: threshold with its figures.
        origin: pictures and rates that it was chosen by.
        engine: file name of the graph that scored the pictures.
    """
    return {
        "format": FORMAT,
        "threshold": choice.threshold,
        "uncertain_above": choice.uncertain_above,
        "origin": asdict(origin),
        "engine": engine,
        "need": choice.need,
        "all": _shares(choice.all),
        "at_zero": _shares(choice.at_zero),
        "groups": [_shares(group) for group in choice.groups],
        "worst": None if choice.worst is None else choice.worst.name,
    }


def _shares(shares: Shares) -> SharesValues:
    return {
        "name": shares.name,
        "real_called_fake": _share(shares.real_called_fake),
        "fake_called_fake": _share(shares.fake_called_fake),
        "fake_called_real": _share(shares.fake_called_real),
        "real_uncertain": _share(shares.real_uncertain),
        "fake_uncertain": _share(shares.fake_uncertain),
    }


def _share(share: Share | None) -> ShareValues | None:
    if share is None:
        return None
    return {
        "found": share.found,
        "pictures": share.pictures,
        "share": share.estimate.as_dict(100),
        "bound": 100 * share.bound,
    }
