"""Whether the classes of a test set can be told apart without looking at a pixel: by how their files are stored.

Where all real pictures are JPEG and all fakes PNG, a detector of file formats is right every time. Each property is
judged alone: a small decision tree learns the class from it, and is asked about pictures that it has not seen.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import sched_getaffinity
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.pictures.facts import PictureFacts, read_facts
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.suites.labelled import TestSet

PROPERTIES = ("format", "size", "quality", "sampling", "colour", "metadata")
# A property that tells less is no reason to doubt a figure, and one in 10,000 sets without any difference is named.
_LEAST_AUC = 0.6
_MOST_CHANCE = 1e-4
_FOLDS = 5
_DEPTH = 4
# Leaves hold at least this share of the pictures, so that no size that one picture has is learnt by heart.
_LEAST_LEAF = 0.02
# Beyond that many values the rarest count as one.
_MOST_VALUES = 64
_WINDOW = 1024
_CLASSES = ("real", "fake")


class ConfounderValues(TypedDict):
    """A property of files that tells the classes apart.

    Attributes:
        set: name of the test set, or of the suite for all of its pictures together.
        property: name of the property: ``"format"``, ``"size"``, ``"quality"``, ``"sampling"``, ``"colour"`` or
            ``"metadata"``.
        auc: area under the ROC curve of that property alone, in [0, 1], on pictures that it was not learnt from.
        text: sentence that says how the classes differ.
    """

    set: str
    property: str
    auc: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Confounder:
    """A property of files that tells the classes apart; see ``ConfounderValues``."""

    set: str
    property: str
    auc: float
    text: str

    def as_dict(self) -> ConfounderValues:
        """Plain values for JSON."""
        return {"set": self.set, "property": self.property, "auc": self.auc, "text": self.text}

    def __str__(self) -> str:
        """For people."""
        return f"{self.set}: {self.text}; the {self.property} alone tells real from fake with an AUC of {self.auc:.2f}"


def find_confounders(name: str, sets: Sequence[TestSet], facts: Mapping[Path, PictureFacts]) -> tuple[Confounder, ...]:
    """Properties by which the classes differ: of all pictures together, then of each test set.

    Args:
        name: name of the suite.
        sets: test sets of the suite.
        facts: facts of the files, from ``read_all_facts``; pictures without any are left out.
    """
    found = []
    groups = [(part.name, part.images) for part in sets]
    if len(groups) > 1:
        groups.insert(0, (name, tuple(image for _, images in groups for image in images)))
    for group, images in groups:
        kept = [(facts[image.path], image.label) for image in images if image.path in facts]
        labels = np.array([label for _, label in kept], dtype=np.int64)
        all_facts = [value for value, _ in kept]
        jpeg = np.array([value.format == "jpeg" for value in all_facts], dtype=bool)
        for one in PROPERTIES:
            # How a JPEG was made is compared among JPEG files: that there are others is a matter of format.
            some = jpeg if one in ("quality", "sampling") else np.ones_like(jpeg)
            chosen = [value for value, wanted in zip(all_facts, some, strict=True) if wanted]
            confounder = _judge(group, one, chosen, labels[some])
            if confounder is not None:
                found.append(confounder)
    return tuple(found)


def read_all_facts(paths: Sequence[Path], on_progress: Progress = ignore_progress) -> dict[Path, PictureFacts]:
    """Facts of files, read in threads; what cannot be opened has none.

    Args:
        paths: paths of the files.
        on_progress: function that is given the name of the step, the number of files done, and of how many.
    """
    found: dict[Path, PictureFacts] = {}
    with ThreadPoolExecutor(len(sched_getaffinity(0)), thread_name_prefix="read-facts") as pool:
        for start in range(0, len(paths), _WINDOW):
            window = paths[start : start + _WINDOW]
            found |= {
                path: facts
                for path, facts in zip(window, pool.map(read_facts, window), strict=True)
                if facts is not None
            }
            on_progress("looking at how files are stored", start + len(window), len(paths))
    return found


def show_value(facts: PictureFacts, name: str) -> str:
    """A property of a file in words.

    Args:
        facts: facts of the file.
        name: name of the property.
    """
    if name == "size":
        return f"{facts.width}x{facts.height}"
    if name == "metadata":
        return ", ".join(facts.metadata) or "no metadata"
    if name == "quality":
        return f"q{facts.quality}"
    if name == "sampling":
        return facts.sampling or "grey"
    return facts.format.upper() if name == "format" else str(getattr(facts, name))


def _judge(group: str, name: str, facts: Sequence[PictureFacts], labels: NDArray[np.int64]) -> Confounder | None:
    smaller = min(int((labels == label).sum()) for label in (0, 1))
    shown = [show_value(one, name) for one in facts]
    if smaller < 2 or len(set(shown)) < 2:
        return None
    auc, chance = _tell_apart(_encode(name, facts, shown), labels, min(_FOLDS, smaller))
    if auc < _LEAST_AUC or chance > _MOST_CHANCE:
        return None
    return Confounder(set=group, property=name, auc=auc, text=_describe(name, shown, labels))


def _encode(name: str, facts: Sequence[PictureFacts], shown: Sequence[str]) -> NDArray[np.float64]:
    """Columns for a tree: numbers as they are, words as one column each."""
    if name == "size":
        return np.array([(one.width, one.height, one.width * one.height) for one in facts], dtype=np.float64)
    if name == "quality":
        return np.array([(one.quality,) for one in facts], dtype=np.float64)
    words = [word for word, _ in Counter(shown).most_common(_MOST_VALUES)]
    return np.array([[value == word for word in words] for value in shown], dtype=np.float64)


def _tell_apart(columns: NDArray[np.float64], labels: NDArray[np.int64], folds: int) -> tuple[float, float]:
    """Mean AUC of trees on the folds that they have not seen, and the chance of it where nothing can be learnt.

    The chance is that of Mann and Whitney's test over all folds; trees of other folds differ a little, which can only
    make it larger.
    """
    from scipy.stats import mannwhitneyu
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold
    from sklearn.tree import DecisionTreeClassifier

    scores, areas = np.empty(len(labels)), []
    plan = StratifiedKFold(folds, shuffle=True, random_state=0)
    for learnt, asked in plan.split(columns, labels):
        tree = DecisionTreeClassifier(max_depth=_DEPTH, min_samples_leaf=_LEAST_LEAF, random_state=0)
        tree.fit(columns[learnt], labels[learnt])
        scores[asked] = tree.predict_proba(columns[asked])[:, 1]
        areas.append(float(roc_auc_score(labels[asked], scores[asked])))
    fake, real = scores[labels == 1], scores[labels == 0]
    chance = mannwhitneyu(fake, real, alternative="greater", method="asymptotic").pvalue
    return float(np.mean(areas)), float(chance)


def _describe(name: str, shown: Sequence[str], labels: NDArray[np.int64]) -> str:
    """How the classes differ, by the value that tells most."""
    counts = {value: np.bincount(labels[[one == value for one in shown]], minlength=2) for value in set(shown)}
    totals = np.bincount(labels, minlength=2)
    alone = {value: count for value, count in counts.items() if count.min() == 0}
    if alone:
        value, count = max(sorted(alone.items()), key=lambda pair: int(pair[1].sum()))
        if count.sum() >= 2 and count.sum() >= _LEAST_LEAF * totals.sum():
            what = {"quality": "JPEG files of ", "sampling": "JPEG files of ", "metadata": "files with "}.get(name, "")
            return f"all {count.sum():,} {what}{value}{'' if what else ' files'} are {_CLASSES[int(count.argmax())]}"
    shares = {value: 100 * count / totals for value, count in counts.items()}
    value, share = max(sorted(shares.items()), key=lambda pair: float(abs(pair[1][1] - pair[1][0])))
    return f"{value}: {share[0]:.0f} % of the real pictures, {share[1]:.0f} % of the fakes"
