"""Where calibration pictures come from: what shares a source is left out together when a choice is judged.

Pictures of one generator, or of one collection, are alike in ways that others are not. A source is the folder that
pictures lie in; where names in a folder are a few words and a number, as in ``cyclegan_0017.png``, each of those words
is a source of its own.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

# A source with fewer pictures says little by itself, and is left out together with others.
_FEWEST = 8
# Each source that is left out costs a calibration of its own.
_MOST_OF_A_CLASS = 4
_NUMBER = re.compile(r"[\W_]*\d+$")


def find_sources(paths: Sequence[str]) -> list[str]:
    """The source of each picture.

    Args:
        paths: paths of the pictures below their folder, with forward slashes.
    """
    folders: dict[str, list[str]] = defaultdict(list)
    split = [(str(PurePosixPath(path).parent), _NUMBER.sub("", PurePosixPath(path).stem)) for path in paths]
    for folder, word in split:
        folders[folder].append(word)
    # Names that are all different, such as hashes, tell nothing.
    named = {folder for folder, words in folders.items() if 1 < len(set(words)) <= len(words) / 4}
    return [f"{folder}/{word}" if folder in named else folder for folder, word in split]


def join_small_sources(sources: Sequence[str], labels: Sequence[int | None]) -> list[str]:
    """The source of each picture, where sources of one class with few pictures are taken as one.

    Args:
        sources: source of each picture, from ``find_sources``.
        labels: label of each picture: 0 is real, 1 is fake; None where it is not known.

    Returns:
        Names; that of sources taken as one has theirs, with `` + `` between. At most four of a class.
    """
    names: dict[tuple[str, int | None], str] = {}
    for label in set(labels):
        counts = Counter(source for source, own in zip(sources, labels, strict=True) if own == label)
        groups = sorted((count, [source]) for source, count in counts.items())
        while len(groups) > 1 and (groups[0][0] < _FEWEST or len(groups) > _MOST_OF_A_CLASS):
            (first, some), (second, others) = groups[:2]
            groups = sorted([(first + second, some + others), *groups[2:]])
        for _, members in groups:
            names |= {(source, label): " + ".join(sorted(members)) for source in members}
    return [names[pair] for pair in zip(sources, labels, strict=True)]


def count_turns(sources: Sequence[str]) -> list[int]:
    """How many pictures of the same source stand in front of each picture."""
    turns: Counter[str] = Counter()
    counted = []
    for source in sources:
        counted.append(turns[source])
        turns[source] += 1
    return counted


def assign_folds(sources: Sequence[str], labels: Sequence[int | None]) -> list[int]:
    """The fold of each picture, two or more: a fold leaves out one source, or a part of what its class cannot spare.

    Of a class that has one source alone, each fold leaves out a part, since without any there would be nothing to
    calibrate that class with.

    Args:
        sources: source of each picture, from ``join_small_sources``.
        labels: label of each picture.
    """
    by_label: dict[int | None, set[str]] = defaultdict(set)
    for source, label in zip(sources, labels, strict=True):
        by_label[label].add(source)
    spared = sorted({source for found in by_label.values() if len(found) > 1 for source in found})
    folds = {source: fold for fold, source in enumerate(spared)}
    count = max(len(spared), 2)
    turns = count_turns(sources)
    return [folds.get(source, turn % count) for source, turn in zip(sources, turns, strict=True)]
