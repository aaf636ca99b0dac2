"""How many decisions an engine would change, estimated from few pictures.

Of fifty pictures hardly one lies so close to the threshold that a good engine flips it, so that counting flips there
says next to nothing: 0 of 50 is compatible with 5 %. But the logits tell more. A picture with logit l flips if the
error e carries it across the threshold t, so that the share of flips is, to first order, the density of logits at t
times the mean size of the errors there. With a kernel K_h that weighs pictures by their distance from t, both are

    flips = mean of K_h(l - t) |e|        and likewise        change of accuracy = mean of K_h(l - t) e (2 y - 1)

with label y, because an error towards "fake" helps fakes and hurts real pictures. The bandwidth h is Silverman's for
the spread within a class. Average precision is estimated by giving each picture the errors of its neighbours in turn.

Pictures of one source are alike, so that a hundred of one generator say little of the next one. Flips are those of a
source, on average; their interval is over sources; and the source that suffers most is named.

Where verdicts are uncertain in a band below the threshold, its lower end decides as much as the threshold does, and
what crosses it is estimated in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # scipy.stats, which has this by name, takes a second to import

from calib.findings_schema import CrossingValues, FlipEstimateValues
from lfm_deploy.metrics.decisions import average_precision, decision_flips
from lfm_deploy.quantisation import Budget

CONFIDENCE = 0.95
_NEIGHBOURS = 5
# A share of the errors that moves no picture past another, and tells the copies of one apart.
_HARDLY = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """How many logits cross one limit, in per cent; ``CrossingValues`` has the fields."""

    share: float
    low: float
    high: float
    worst: float
    worst_source: str

    def as_dict(self) -> CrossingValues:
        """Plain values for JSON; what is no number is None."""
        return {
            "share": as_number(self.share),
            "low": as_number(self.low),
            "high": as_number(self.high),
            "worst": as_number(self.worst),
            "worst_source": self.worst_source,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipEstimate:
    """How far an engine is from the float32 reference on some pictures.

    Attributes:
        pictures: number of pictures.
        sources: number of sources that they are of.
        flips: estimated share of changed decisions, in per cent, as a mean over sources.
        flips_low, flips_high: ends of its interval at 95 %, over sources; over pictures where all are of one source.
        worst: estimated share of changed decisions of the source where it is largest, in per cent.
        worst_source: name of that source.
        acc: estimated change of accuracy in percentage points.
        ap: estimated change of average precision in points; None where only one class is there.
        seen_flips: decisions that did change, of ``pictures``.
        mean_error: mean |Δlogit|.
        band: verdicts that cross the lower end of the band, from real to uncertain or back; None without a band.
    """

    pictures: int
    sources: int
    flips: float
    flips_low: float
    flips_high: float
    worst: float
    worst_source: str
    acc: float
    ap: float | None
    seen_flips: int
    mean_error: float
    band: Crossing | None = None

    def broken(self, budget: Budget) -> list[str]:
        """What of a budget it does not hold, in words; flips must hold it at the upper end, and on every source.

        What crosses the lower end of a band may be as much as flips may be.

        Accuracy is not given an interval as well: from a hundred pictures that is as wide as the allowance itself, and
        the flips bound it.
        """
        whole = Crossing(
            share=self.flips,
            low=self.flips_low,
            high=self.flips_high,
            worst=self.worst,
            worst_source=self.worst_source,
        )
        ends = {"flips": whole} | ({} if self.band is None else {"crossing the band's lower end": self.band})
        checks = (
            *(
                check
                for name, found in ends.items()
                for check in (
                    (found.high, budget.flips, f"{name} {found.share:.2f} %, at most {found.high:.2f} %", "%"),
                    (found.worst, budget.flips, f"{name} {found.worst:.2f} % on {found.worst_source}", "%"),
                )
            ),
            (abs(self.acc), budget.acc, f"ACC {self.acc:+.2f} points", "points"),
            (abs(self.ap or 0.0), budget.ap, f"AP {self.ap or 0.0:+.2f} points", "points"),
        )
        # Written so that NaN breaks the budget.
        return [f"{text} (allowed {limit:g} {unit})" for value, limit, text, unit in checks if not value <= limit]

    def as_dict(self) -> FlipEstimateValues:
        """Plain values for JSON; what is no number is None."""
        values: FlipEstimateValues = {
            "pictures": self.pictures,
            "sources": self.sources,
            "flips": as_number(self.flips),
            "flips_low": as_number(self.flips_low),
            "flips_high": as_number(self.flips_high),
            "worst": as_number(self.worst),
            "worst_source": self.worst_source,
            "acc": as_number(self.acc),
            "ap": as_number(self.ap),
            "seen_flips": self.seen_flips,
            "mean_error": as_number(self.mean_error),
        }
        return values if self.band is None else values | {"band": self.band.as_dict()}


def estimate_change(
    logits: NDArray[np.floating],
    reference: NDArray[np.floating],
    labels: NDArray[np.integer],
    threshold: float,
    sources: Sequence[str],
    uncertain_above: float | None = None,
) -> FlipEstimate:
    """Estimate what an engine changes.

    Args:
        logits: logits of the engine ``(N,)``.
        reference: float32 logits of the same pictures ``(N,)``.
        labels: ``(N,)``; 0 is real, 1 is fake.
        threshold: the contract's threshold; a logit above it is fake.
        sources: source of each picture ``(N,)``.
        uncertain_above: lower end of the band below the threshold; None without a band.
    """
    errors = (logits - reference).astype(np.float64)
    distances = reference.astype(np.float64) - threshold
    weights = _kernel(distances, labels)
    flips = _estimate_crossing(errors, weights, sources)
    band = None
    if uncertain_above is not None:
        band = _estimate_crossing(errors, _kernel(distances + threshold - uncertain_above, labels), sources)
    both = len(np.unique(labels)) == 2 and bool(np.isfinite(logits).all())
    return FlipEstimate(
        pictures=len(reference),
        sources=len(set(sources)),
        flips=flips.share,
        flips_low=flips.low,
        flips_high=flips.high,
        worst=flips.worst,
        worst_source=flips.worst_source,
        acc=float(100 * (weights * errors * (2 * labels - 1)).mean()),
        ap=_ap_change(errors, reference, labels) if both else None,
        seen_flips=len(decision_flips(logits, reference, threshold)),
        mean_error=float(np.abs(errors).mean()),
        band=band,
    )


def restore_estimate(values: FlipEstimateValues) -> FlipEstimate | None:
    """The estimate that plain values were made of; None where one of them was no finite number, or was not there.

    Args:
        values: values of ``FlipEstimate.as_dict``, also through JSON, which keeps every bit of a float64.
    """
    told = [*values.values(), *values.get("band", {}).values()]
    return None if None in told else msgspec.convert(values, FlipEstimate)


def as_number(value: float | None) -> float | None:
    """The value, or None where it is no finite number, which JSON cannot say."""
    return value if value is not None and np.isfinite(value) else None


def _estimate_crossing(errors: NDArray[np.float64], weights: NDArray[np.float64], sources: Sequence[str]) -> Crossing:
    """How much crosses a limit, by the weights of the distances from it."""
    crossing = 100 * weights * np.abs(errors)
    names, places = np.unique(np.array(sources), return_inverse=True)
    by_source = np.bincount(places, crossing) / np.bincount(places)
    low, high = _interval(by_source if len(names) > 1 else crossing)
    return Crossing(
        share=float(by_source.mean()),
        low=low,
        high=high,
        worst=float(by_source.max()),
        worst_source=str(names[int(by_source.argmax())]),
    )


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Interval of the mean by Student's t, cut off at 0."""
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * values.std(ddof=1) / np.sqrt(len(values))
    return max(float(values.mean() - half), 0.0), float(values.mean() + half)


def _kernel(distances: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Gaussian weights of the distances from the threshold, which integrate to 1."""
    spread = np.sqrt(np.mean([distances[labels == label].var() for label in np.unique(labels)]))
    width = max(1.06 * float(spread) * len(distances) ** -0.2, np.finfo(np.float32).tiny)
    return np.asarray(np.exp(-0.5 * (distances / width) ** 2) / (width * np.sqrt(2 * np.pi)))


def _ap_change(errors: NDArray[np.float64], reference: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Change of average precision in points, each logit with the errors of the pictures next to it in turn."""
    flat = reference.astype(np.float64)
    order = np.argsort(flat, kind="stable")
    ranks = np.empty(len(flat), np.intp)
    ranks[order] = np.arange(len(flat))
    shifts = range(-_NEIGHBOURS, _NEIGHBOURS + 1)
    borrowed = np.stack([errors[order[np.clip(ranks + shift, 0, len(flat) - 1)]] for shift in shifts])
    # Average precision depends on how many pictures there are, so that the copies are compared with as many copies.
    before, after = (flat + share * borrowed for share in (_HARDLY, 1.0))
    copies = np.tile(labels, len(borrowed))
    return 100 * (average_precision(after.ravel(), copies) - average_precision(before.ravel(), copies))
