"""How many decisions an engine would change, estimated from few pictures.

Of fifty pictures hardly one lies so close to the threshold that a good engine flips it, so that counting flips there
says next to nothing: 0 of 50 is compatible with 5 %. But the logits tell more. A picture with logit l flips if the
error e carries it across the threshold t, so that the share of flips is, to first order, the density of logits at t
times the mean size of the errors there. With a kernel K_h that weighs pictures by their distance from t, both are

    flips = mean of K_h(l - t) |e|        and likewise        change of accuracy = mean of K_h(l - t) e (2 y - 1)

with label y, because an error towards "fake" helps fakes and hurts real pictures. The bandwidth h is Silverman's for
the spread within a class. Average precision is estimated by giving each picture the errors of its neighbours in turn.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.findings_schema import FlipEstimateValues
from lfm_deploy.metrics.decisions import average_precision, decision_flips
from lfm_deploy.quantisation import Budget

_NEIGHBOURS = 5
# A share of the errors that moves no picture past another, and tells the copies of one apart.
_HARDLY = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipEstimate:
    """How far an engine is from the float32 reference on some pictures.

    Attributes:
        pictures, views: number of pictures, and number of ways in which each was looked at.
        flips: estimated share of changed decisions, in per cent, and ``flips_error``, its standard error.
        acc: estimated change of accuracy in percentage points.
        ap: estimated change of average precision in points; None where only one class is there.
        seen_flips: decisions that did change, of ``pictures * views``.
        mean_error: mean |Δlogit|.
    """

    pictures: int
    views: int
    flips: float
    flips_error: float
    acc: float
    ap: float | None
    seen_flips: int
    mean_error: float

    def broken(self, budget: Budget) -> list[str]:
        """What of a budget it does not hold, in words; flips must hold it with their standard error.

        Accuracy is not given its error as well: from fifty pictures that is as large as the allowance itself, and the
        flips bound it.
        """
        upper = self.flips + self.flips_error
        checks = (
            (upper, budget.flips, f"flips {self.flips:.2f} + {self.flips_error:.2f} %", "%"),
            (abs(self.acc), budget.acc, f"ACC {self.acc:+.2f} points", "points"),
            (abs(self.ap or 0.0), budget.ap, f"AP {self.ap or 0.0:+.2f} points", "points"),
        )
        # Written so that NaN breaks the budget.
        return [f"{text} (allowed {limit:g} {unit})" for value, limit, text, unit in checks if not value <= limit]

    def as_dict(self) -> FlipEstimateValues:
        """Plain values for JSON; what is no number is None."""
        return {
            "pictures": self.pictures,
            "views": self.views,
            "flips": as_number(self.flips),
            "flips_error": as_number(self.flips_error),
            "acc": as_number(self.acc),
            "ap": as_number(self.ap),
            "seen_flips": self.seen_flips,
            "mean_error": as_number(self.mean_error),
        }


def estimate_change(
    logits: NDArray[np.floating], reference: NDArray[np.floating], labels: NDArray[np.integer], threshold: float
) -> FlipEstimate:
    """Estimate what an engine changes.

    Args:
        logits: ``(views, N)``; several views of one picture, such as its mirror image, count as one picture.
        reference: float32 logits of the same views ``(views, N)``.
        labels: ``(N,)``; 0 is real, 1 is fake.
        threshold: the contract's threshold; a logit above it is fake.
    """
    views, pictures = reference.shape
    errors = (logits - reference).astype(np.float64)
    weights = _kernel(reference.astype(np.float64) - threshold, labels)
    flips = 100 * (weights * np.abs(errors)).mean(axis=0)
    acc = 100 * (weights * errors * (2 * labels - 1)).mean()
    both = len(np.unique(labels)) == 2 and bool(np.isfinite(logits).all())
    return FlipEstimate(
        pictures=pictures,
        views=views,
        flips=float(flips.mean()),
        flips_error=float(flips.std(ddof=1) / np.sqrt(pictures)),
        acc=float(acc),
        ap=_ap_change(errors, reference, labels) if both else None,
        seen_flips=len(decision_flips(logits.ravel(), reference.ravel(), threshold)),
        mean_error=float(np.abs(errors).mean()),
    )


def as_number(value: float | None) -> float | None:
    """The value, or None where it is no finite number, which JSON cannot say."""
    return value if value is not None and np.isfinite(value) else None


def _kernel(distances: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Gaussian weights of the distances from the threshold, which integrate to 1."""
    spread = np.sqrt(np.mean([distances[:, labels == label].var() for label in np.unique(labels)]))
    width = max(1.06 * float(spread) * distances.shape[1] ** -0.2, np.finfo(np.float32).tiny)
    return np.asarray(np.exp(-0.5 * (distances / width) ** 2) / (width * np.sqrt(2 * np.pi)))


def _ap_change(errors: NDArray[np.float64], reference: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Change of average precision in points, each logit with the errors of the pictures next to it in turn."""
    flat, targets = reference.ravel().astype(np.float64), np.tile(labels, len(reference))
    order = np.argsort(flat, kind="stable")
    ranks = np.empty(len(flat), np.intp)
    ranks[order] = np.arange(len(flat))
    shifts = range(-_NEIGHBOURS, _NEIGHBOURS + 1)
    borrowed = np.stack([errors.ravel()[order[np.clip(ranks + shift, 0, len(flat) - 1)]] for shift in shifts])
    # Average precision depends on how many pictures there are, so that the copies are compared with as many copies.
    before, after = (flat + share * borrowed for share in (_HARDLY, 1.0))
    copies = np.tile(targets, len(borrowed))
    return 100 * (average_precision(after.ravel(), copies) - average_precision(before.ravel(), copies))
