"""From scores to a threshold: the rate that it keeps, the recall that it leaves, and what it does to each group."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.errors import ConfigError, MetricError, SuiteError
from lfm_deploy.metrics.estimate import CONFIDENCE, Estimate
from lfm_deploy.metrics.false_positives import choose_threshold, pictures_for_claim, upper_bound
from lfm_deploy.metrics.paired import estimate_rate
from lfm_deploy.scoring.scores import Scores

# Twice what the gate of FP32 lets a logit move, as a share of the logits' spread: no engine that holds it changes a
# decision at the threshold.
_GAP_SHARE = 4e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a threshold is to keep.

    Attributes:
        rate: share of real pictures that may be called fake, a fraction.
        miss_rate: share of fakes that may be called real, a fraction; None for no band.
        each_group: whether the rates are kept in each group of pictures, instead of in all together.

    Raises:
        ConfigError: a rate is not between 0 and 1.
    """

    rate: float
    miss_rate: float | None = None
    each_group: bool = False

    def __post_init__(self) -> None:
        """Refuse rates that say nothing."""
        for rate in (self.rate, self.miss_rate):
            if rate is not None and not 0 < rate < 1:
                raise ConfigError(f"a rate is {rate:g}, expected a share between 0 and 1, such as 1% or 0.01")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many pictures of a class get a verdict.

    Attributes:
        found: number of pictures that get it.
        pictures: number of pictures of the class.
        estimate: share with its exact 95 % interval, a fraction.
        bound: largest share that is possible, with 95 % confidence (one-sided).
    """

    found: int
    pictures: int
    estimate: Estimate
    bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
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
    real_called_fake: Share | None
    fake_called_fake: Share | None
    fake_called_real: Share | None
    real_uncertain: Share | None
    fake_uncertain: Share | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdChoice:
    """A threshold, and what it does to the pictures that it was chosen on.

    Attributes:
        claim: rates that it keeps.
        threshold: logit above which a picture is called fake.
        uncertain_above: logit above which, up to the threshold, no verdict is given; None without a band.
        need: fewest real pictures that can show the rate.
        all: figures of all pictures.
        at_zero: figures of all pictures at the threshold 0, that of the paper.
        groups: figures of each group, in the order of the pictures; empty where there are no groups.
    """

    claim: Claim
    threshold: float
    uncertain_above: float | None
    need: int
    all: Shares
    at_zero: Shares
    groups: tuple[Shares, ...]

    @property
    def worst(self) -> Shares | None:
        """The group of whose real pictures the largest share is called fake; None without groups."""
        judged = [(one.real_called_fake, one) for one in self.groups if one.real_called_fake is not None]
        return max(judged, key=lambda pair: (pair[0].estimate.value, pair[0].pictures))[1] if judged else None


def choose(sets: Sequence[tuple[str, Scores]], claim: Claim) -> ThresholdChoice:
    """Choose the threshold, and the lower end of the band where one is asked for.

    Args:
        sets: names of the test sets with the scores on each.
        claim: rates to keep.

    Raises:
        MetricError: the pictures are too few for a rate, or a logit is no finite number.
        SuiteError: there is no real picture, or no fake where a band needs one.
    """
    groups = _find_groups(sets)
    logits = np.concatenate([scores.logits for _, scores in sets])
    labels = np.concatenate([scores.labels for _, scores in sets])
    broken = int((~np.isfinite(logits)).sum())
    if broken:
        raise MetricError(
            f"{broken} of {len(logits)} logits are no finite number, so that no threshold can be chosen; look for the "
            "engine that is broken with 'lfm-deploy verify'"
        )
    if not (labels == 0).any():
        raise SuiteError("there is no real picture, and a threshold is chosen on real ones; put some into 0_real/")
    if claim.miss_rate is not None and not (labels == 1).any():
        raise SuiteError("there is no fake, and the band is chosen on fakes, too; put some into 1_fake/")
    gap = _GAP_SHARE * float(logits.std(dtype=np.float64))
    threshold = _keep(logits, labels, groups if claim.each_group else (), 0, claim.rate, gap)
    low = None
    if claim.miss_rate is not None:
        low = -_keep(-logits, labels, groups if claim.each_group else (), 1, claim.miss_rate, gap)
        low = None if low >= threshold else low  # at the threshold itself both rates are kept
    return ThresholdChoice(
        claim=claim,
        threshold=threshold,
        uncertain_above=low,
        need=pictures_for_claim(claim.rate),
        all=_count("", logits, labels, threshold, low),
        at_zero=_count("", logits, labels, 0.0, None),
        groups=tuple(_count(name, logits[where], labels[where], threshold, low) for name, where in groups),
    )


def _find_groups(sets: Sequence[tuple[str, Scores]]) -> tuple[tuple[str, NDArray[np.bool_]], ...]:
    """The test sets, or the categories of a single one: names, and which of all pictures belong to each."""
    if len(sets) > 1:
        of = np.concatenate([np.full(len(scores.paths), name, dtype=object) for name, scores in sets])
    else:
        of = np.array([category or "" for category in sets[0][1].categories], dtype=object)
    names = [name for name in dict.fromkeys(of.tolist()) if name]
    return tuple((name, of == name) for name in names) if len(names) > 1 else ()


def _keep(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    groups: Sequence[tuple[str, NDArray[np.bool_]]],
    label: int,
    rate: float,
    gap: float,
) -> float:
    """The lowest threshold that keeps a rate of one class, in all pictures or in each group."""
    found = []
    for name, where in groups or [("", np.ones(len(labels), dtype=bool))]:
        kept = where & (labels == label)
        if not kept.any():
            continue
        try:
            found.append(choose_threshold(logits[kept], logits[~kept], rate, CONFIDENCE, least_gap=gap))
        except MetricError as error:
            kind = "fake" if label else "real"
            raise MetricError(f"{f'{name}: ' if name else ''}of the {kind} class, {error}") from None
    return max(found)


def _count(
    name: str, logits: NDArray[np.floating], labels: NDArray[np.integer], threshold: float, low: float | None
) -> Shares:
    fake, real = logits[labels == 1], logits[labels == 0]
    edge = threshold if low is None else low
    return Shares(
        name=name,
        real_called_fake=_share(real > threshold),
        fake_called_fake=_share(fake > threshold),
        fake_called_real=_share(fake <= edge),
        real_uncertain=_share((real > edge) & (real <= threshold)),
        fake_uncertain=_share((fake > edge) & (fake <= threshold)),
    )


def _share(has: NDArray[np.bool_]) -> Share | None:
    if not len(has):
        return None
    found = int(has.sum())
    return Share(
        found=found,
        pictures=len(has),
        estimate=estimate_rate(found, len(has)),
        bound=upper_bound(found, len(has)),
    )
