"""What depends on the order of scores, for many resampled rounds at once: AP, AUC, and thresholds.

Scores are sorted once. Let T be how many fakes and F how many real pictures of a round score at least as much as a
fake, from cumulative sums of counts along the sorted scores: AP is the mean of T / (T + F) over drawn fakes, AUC the
mean share of real pictures below them, and every threshold a place in the same sums. Equal scores share one place.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Shares of real pictures that may be taken for fake, for the thresholds that keep to them.
FALSE_POSITIVE_RATES = (0.001, 0.01, 0.05)
# Counts that one pass works on: some arrays of that many numbers fit a processor's cache.
_PASS_COUNTS = 200_000


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """Figures of some rounds, each ``(R,)``.

    Attributes:
        ap, auc: average precision of the fake class and area under the ROC curve, in [0, 1].
        best_threshold, best_balanced_acc: threshold at which the mean of both classes' accuracies is largest, and that
            mean; of several such thresholds the highest.
        thresholds: lowest threshold that keeps to a false-positive rate, by that rate; a rate is missing where there
            are too few real pictures for one of them to be a smaller share than the rate.
        acc_fake: share of fakes above that threshold, by false-positive rate.
    """

    ap: NDArray[np.float64]
    auc: NDArray[np.float64]
    best_threshold: NDArray[np.float64]
    best_balanced_acc: NDArray[np.float64]
    thresholds: dict[float, NDArray[np.float64]]
    acc_fake: dict[float, NDArray[np.float64]]


class Ranking:
    """Scores in order, ready to be counted.

    Args:
        real, fake: finite scores of real and of fake pictures, at least one each.
        real_columns, fake_columns: columns of these pictures in the counts that ``judge`` is given.
    """

    def __init__(
        self,
        real: NDArray[np.floating],
        fake: NDArray[np.floating],
        real_columns: NDArray[np.intp],
        fake_columns: NDArray[np.intp],
    ) -> None:
        real_order, fake_order = np.argsort(-real, kind="stable"), np.argsort(-fake, kind="stable")
        self._real_columns, self._fake_columns = real_columns[real_order], fake_columns[fake_order]
        falling_real, falling_fake = real[real_order].astype(np.float64), fake[fake_order].astype(np.float64)
        self._real = falling_real
        # For each fake: the last fake of its score, how many real scores reach it, and how many lie above it.
        self._last = np.searchsorted(-falling_fake, -falling_fake, side="right") - 1
        self._reaching = np.searchsorted(-falling_real, -falling_fake, side="right")
        self._above = np.searchsorted(-falling_real, -falling_fake, side="left")
        # For each real score: how many fakes lie above it.
        self._fakes_above = np.searchsorted(-falling_fake, -falling_real, side="left")
        self._fakes_tie = bool((self._last != np.arange(len(fake))).any())
        self._classes_tie = bool((self._reaching != self._above).any())
        self._cuts = _cut_below(falling_fake, np.concatenate([falling_real, falling_fake]))
        self._top = max(falling_real[0], falling_fake[0])

    def judge(self, counts: NDArray[np.uint8]) -> Ranked:
        """Figures of each round.

        Args:
            counts: uint8 ``(R, pictures)``, number of times that each picture was drawn; every round draws as many real
                and as many fake pictures as there are.
        """
        step = max(1, _PASS_COUNTS // (len(self._real_columns) + len(self._fake_columns)))
        parts = [self._judge_some(counts[start : start + step]) for start in range(0, len(counts), step)]
        return Ranked(
            ap=np.concatenate([part.ap for part in parts]),
            auc=np.concatenate([part.auc for part in parts]),
            best_threshold=np.concatenate([part.best_threshold for part in parts]),
            best_balanced_acc=np.concatenate([part.best_balanced_acc for part in parts]),
            thresholds={
                rate: np.concatenate([part.thresholds[rate] for part in parts]) for rate in parts[0].thresholds
            },
            acc_fake={rate: np.concatenate([part.acc_fake[rate] for part in parts]) for rate in parts[0].acc_fake},
        )

    def _judge_some(self, counts: NDArray[np.uint8]) -> Ranked:
        drawn = np.take(counts, self._fake_columns, axis=1, mode="clip")
        real, fake = len(self._real_columns), len(self._fake_columns)
        false = np.zeros((len(counts), real + 1), dtype=np.int32)
        np.cumsum(np.take(counts, self._real_columns, axis=1, mode="clip"), axis=1, dtype=np.int32, out=false[:, 1:])
        true = np.zeros((len(counts), fake + 1), dtype=np.int32)
        np.cumsum(drawn, axis=1, dtype=np.int32, out=true[:, 1:])
        reached = np.take(true, self._last + 1, axis=1, mode="clip") if self._fakes_tie else true[:, 1:]
        reaching = np.take(false, self._reaching, axis=1, mode="clip")
        above = np.take(false, self._above, axis=1, mode="clip") if self._classes_tie else reaching
        # Where neither was drawn yet, no drawn fake reads the quotient.
        judged = reached + reaching
        precision = reached / np.maximum(judged, 1, out=judged)
        thresholds, acc_fake = self._hold_rates(false, true)
        best_threshold, best = self._find_best(reached, reaching)
        return Ranked(
            ap=_dot(drawn, precision) / fake,
            auc=1 - (_dot(drawn, reaching) + _dot(drawn, above)) / (2 * real * fake),
            best_threshold=best_threshold,
            best_balanced_acc=best,
            thresholds=thresholds,
            acc_fake=acc_fake,
        )

    def _find_best(
        self, reached: NDArray[np.int32], reaching: NDArray[np.int32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The best cut is right below a fake, or above everything: below a real picture it only lets that one in."""
        real, fake = len(self._real_columns), len(self._fake_columns)
        # Products of two counts: exact in float64, so that equal cuts are equal.
        gain = np.multiply(reached, float(real))
        gain -= np.multiply(reaching, float(fake))
        place = gain.argmax(axis=1)
        best = np.maximum(gain[np.arange(len(gain)), place], 0)
        return np.where(best > 0, self._cuts[place], self._top), 0.5 + best / (2 * real * fake)

    def _hold_rates(
        self, false: NDArray[np.int32], true: NDArray[np.int32]
    ) -> tuple[dict[float, NDArray[np.float64]], dict[float, NDArray[np.float64]]]:
        """At a rate, the threshold is the first real score that would be one too many: what equals it is "real"."""
        real, fake = len(self._real_columns), len(self._fake_columns)
        rows = np.arange(len(false))
        thresholds, acc_fake = {}, {}
        for rate in FALSE_POSITIVE_RATES:
            allowed = int(rate * real + 1e-9)  # 0.05 * 20 is 1, whatever float64 makes of it
            if allowed >= 1:
                place = (false <= allowed).sum(axis=1) - 1
                thresholds[rate] = self._real[place]
                acc_fake[rate] = true[rows, self._fakes_above[place]] / fake
        return thresholds, acc_fake


def _cut_below(falling: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each score the middle between it and the next lower one of all; right below it where there is none."""
    known = np.unique(scores)
    place = np.searchsorted(known, falling)
    lower = np.where(place > 0, known[np.maximum(place - 1, 0)], np.nextafter(falling, -np.inf))
    return lower + (falling - lower) / 2


def _dot(counts: NDArray[np.uint8], values: NDArray[np.float64] | NDArray[np.int32]) -> NDArray[np.float64]:
    """Row by row, the sum of values as often as they were drawn."""
    return np.asarray(np.einsum("ij,ij->i", counts, values, dtype=np.float64, casting="unsafe"))
