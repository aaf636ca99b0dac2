"""All metrics of one engine over a suite: of each test set, of all pictures pooled, and means over the sets."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.machine import count_cores
from lfm_deploy.metrics.decisions import accuracy
from lfm_deploy.metrics.engine_metrics import SHARES, Metrics, Rounds, make_metrics, named
from lfm_deploy.metrics.paired import effective_pictures
from lfm_deploy.metrics.probability import ProbabilityDeviations, error_of_bins, expected_calibration_error
from lfm_deploy.metrics.ranking import FALSE_POSITIVE_RATES, Ranked, Ranking
from lfm_deploy.metrics.resampling import Resampling


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What one engine achieves over a suite.

    Attributes:
        sets: metrics of each test set, in the suite's order.
        pooled: metrics over all pictures of the suite.
        mean: metrics as means over the sets with both classes, as the paper takes them; None for a metric that a set
            lacks.
        mean_rounds: resampled means by the names of ``Metrics``, ``(R,)`` each, for differences between engines.
    """

    sets: tuple[Metrics, ...]
    pooled: Metrics
    mean: Metrics
    mean_rounds: Rounds


def make_resampling(labels: Sequence[NDArray[np.integer]], rounds: int, seed: int) -> Resampling:
    """The rounds of a suite; pass the same one for every engine.

    Args:
        labels: labels of each test set, ``(N,)`` each; 0 is real, 1 is fake.
        rounds: number of rounds.
        seed: seed of the draws; the same labels and seed give the same rounds.
    """
    return Resampling(tuple(int((part == label).sum()) for part in labels for label in (0, 1)), rounds, seed)


def summarise(
    sets: Sequence[tuple[NDArray[np.floating], NDArray[np.integer]]], threshold: float, resampling: Resampling
) -> Summary:
    """Compute the metrics of one engine with their intervals.

    Args:
        sets: logits and labels of each test set, ``(N,)`` each. A logit that is no finite number decides "real".
        threshold: logit above which a picture is fake.
        resampling: rounds from ``make_resampling`` for the same labels.
    """
    # In the order of the columns of counts: the real pictures of a set, its fakes, and the next set.
    ordered = [(logits[order], labels[order]) for logits, labels in sets for order in [labels.argsort(kind="stable")]]
    groups = [_Group(logits, labels, threshold) for logits, labels in ordered]
    pool = groups[0]
    if len(groups) > 1:
        all_logits, all_labels = (np.concatenate(parts) for parts in zip(*ordered, strict=True))
        pool = _Group(all_logits, all_labels, threshold)
    edges = np.cumsum([0, *(len(labels) for _, labels in ordered)])
    # Groups are judged side by side: NumPy lets go of the interpreter where the work is.
    with ThreadPoolExecutor(count_cores()) as threads:
        for counts in resampling.blocks():
            of_sets = [counts[:, low:high] for low, high in pairwise(edges)]
            sums = list(threads.map(_Group.add_up, groups, of_sets))
            # The pool first: it takes longest.
            whole = [] if pool is groups[0] else [(pool, counts, _add(pool.sums, sums))]
            list(threads.map(lambda work: work[0].judge(*work[1:]), [*whole, *zip(groups, of_sets, sums, strict=True)]))
    complete = [group for group in groups if group.real and group.fake]
    means, mean_rounds = _take_means(complete)
    return Summary(
        sets=tuple(group.metrics() for group in groups),
        pooled=pool.metrics(),
        mean=make_metrics(means, mean_rounds, _count_behind([(group.real, group.fake) for group in complete])),
        mean_rounds=mean_rounds,
    )


class _Group:
    """Pictures that are judged together: figures of the sample, and of all rounds so far."""

    def __init__(self, logits: NDArray[np.floating], labels: NDArray[np.integer], threshold: float) -> None:
        is_fake = labels == 1
        self.real, self.fake = int((~is_fake).sum()), int(is_fake.sum())
        finite = np.isfinite(logits)
        # A logit that is no number is above no threshold, so it decides "real".
        self._right = ((logits > threshold) & finite) == is_fake
        self._fake_places, self._real_places = np.flatnonzero(is_fake), np.flatnonzero(~is_fake)
        self.values = {"acc": accuracy(np.where(finite, logits, -np.inf), labels, threshold)}
        if self.real:
            self.values["acc_real"] = float(self._right[~is_fake].mean())
        if self.fake:
            self.values["acc_fake"] = float(self._right[is_fake].mean())
        if self.real and self.fake:
            self.values["balanced_acc"] = (self.values["acc_real"] + self.values["acc_fake"]) / 2
        self._ranking = self._calibration = None
        if finite.all():
            self._calibration = ProbabilityDeviations(logits, labels)
            self.values["ece"] = expected_calibration_error(logits, labels)
            if self.real and self.fake:
                self._ranking = Ranking(logits[~is_fake], logits[is_fake], self._real_places, self._fake_places)
                ranked = _name(self._ranking.judge(np.ones((1, len(logits)), dtype=np.uint8)))
                self.values |= {name: float(value[0]) for name, value in ranked.items()}
        self._rounds: dict[str, list[NDArray[np.float64]]] = {name: [] for name in self.values}

    @property
    def sums(self) -> tuple[str, ...]:
        """Names of what ``add_up`` gives."""
        return ("right real", "right fake") if self._calibration is None else ("right real", "right fake", "bins")

    def add_up(self, counts: NDArray[np.uint8]) -> Rounds:
        """What adds up over the sets of a pool: right decisions of each class, and deviations in bins."""
        sums = {
            "right real": counts[:, self._real_places[self._right[self._real_places]]].sum(axis=1, dtype=np.float64),
            "right fake": counts[:, self._fake_places[self._right[self._fake_places]]].sum(axis=1, dtype=np.float64),
        }
        return sums if self._calibration is None else sums | {"bins": self._calibration.sum_bins(counts)}

    def judge(self, counts: NDArray[np.uint8], sums: Rounds) -> None:
        """Add a block of rounds, with what ``add_up`` gave for it."""
        right_real, right_fake = sums["right real"], sums["right fake"]
        found = {"acc": (right_real + right_fake) / (self.real + self.fake)}
        if self.real:
            found["acc_real"] = right_real / self.real
        if self.fake:
            found["acc_fake"] = right_fake / self.fake
        if self.real and self.fake:
            found["balanced_acc"] = (found["acc_real"] + found["acc_fake"]) / 2
        if self._calibration is not None:
            found["ece"] = error_of_bins(sums["bins"], self.real + self.fake)
        if self._ranking is not None:
            found |= _name(self._ranking.judge(counts))
        for name, values in found.items():
            self._rounds[name].append(values)

    @property
    def rounds(self) -> Rounds:
        """Of all blocks."""
        return {name: np.concatenate(parts) for name, parts in self._rounds.items()}

    def metrics(self) -> Metrics:
        """With the intervals of all blocks."""
        return make_metrics(self.values, self.rounds, _count_behind([(self.real, self.fake)]))


def _add(names: Sequence[str], sums: Sequence[Rounds]) -> Rounds:
    """Sums of all sets together."""
    return {name: np.sum([part[name] for part in sums], axis=0) for name in names}


def _take_means(groups: Sequence[_Group]) -> tuple[dict[str, float], Rounds]:
    """Means over groups of every figure that all of them have, and of its rounds."""
    shared = [name for name in groups[0].values if all(name in group.values for group in groups)] if groups else []
    rounds = [group.rounds for group in groups]
    means = {name: float(np.mean([group.values[name] for group in groups])) for name in shared}
    return means, {name: np.mean([part[name] for part in rounds], axis=0) for name in shared}


def _count_behind(sizes: Sequence[tuple[int, int]]) -> dict[str, float]:
    """By the name of a share, the effective number of pictures of its mean over groups of (real, fake) pictures."""
    real, fake = [size for size, _ in sizes if size], [size for _, size in sizes if size]
    behind = {"acc": effective_pictures([sum(size) for size in sizes])} if sizes else {}
    if real:
        behind["acc_real"] = effective_pictures(real)
    if fake:
        behind["acc_fake"] = effective_pictures(fake)
        behind |= {named("acc_fake", rate): behind["acc_fake"] for rate in FALSE_POSITIVE_RATES}
    if real and fake:
        # Both classes weigh the same in these, so the smaller one says how sure they are.
        both = effective_pictures([*real, *fake])
        behind |= dict.fromkeys((*(name for name in SHARES if name not in behind), "best_balanced_acc"), both)
    return behind


def _name(ranked: Ranked) -> Rounds:
    """Figures of a ranking by their names in ``make_metrics``."""
    named_rates = {named("threshold", rate): values for rate, values in ranked.thresholds.items()}
    named_rates |= {named("acc_fake", rate): values for rate, values in ranked.acc_fake.items()}
    return {
        "ap": ranked.ap,
        "auc": ranked.auc,
        "best_threshold": ranked.best_threshold,
        "best_balanced_acc": ranked.best_balanced_acc,
        **named_rates,
    }
