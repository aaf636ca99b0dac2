"""Which pictures to look at closely, and what the network saw in each: residuals, selected positions, evidence."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.errors import ConfigError
from lfm_deploy.exploration.specimens import share_out
from lfm_deploy.network.checkpoint import Checkpoint
from lfm_deploy.network.evidence import evidence_contributions, evidence_map
from lfm_deploy.network.model import LFM
from lfm_deploy.prediction.overlays import CheckpointEvidence

VERDICTS = ("real", "fake")


@dataclass(frozen=True, slots=True)
class Kind:
    """Pictures of one label (None: unknown) that were judged alike.

    Attributes:
        label: label of a picture: 0 is real, 1 is fake, None is unknown.
        verdict: verdict on a picture: 0 is real, 1 is fake.
    """

    label: int | None
    verdict: int

    @property
    def right(self) -> bool | None:
        """Whether the verdict is the label; None where there is none."""
        return None if self.label is None else self.label == self.verdict

    @property
    def side(self) -> int:
        """0 for real and 1 for fake: by the label, or by the verdict where there is none."""
        return self.verdict if self.label is None else self.label

    @property
    def title(self) -> str:
        """For people."""
        judged = f"judged {VERDICTS[self.verdict]}"
        return judged if self.label is None else f"{VERDICTS[self.label]}, {judged}"


# The right ones first, real beside fake.
_KINDS = (Kind(0, 0), Kind(1, 1), Kind(0, 1), Kind(1, 0), Kind(None, 0), Kind(None, 1))


@dataclass(frozen=True, kw_only=True)
class Example:
    """What the network saw in one picture of H x W pixels.

    Attributes:
        index: index of the picture in the list.
        kind: label and verdict of the picture.
        picture: uint8 ``(H, W, 3)``, as it was judged.
        residual: float32 ``(H, W)``: |NPR| in grey levels, the mean over R, G and B.
        selected: float64 ``(H, W)``: how many of the values that Top-K pooling selected see this pixel.
        spread: float64 ``(H, W)``: what each pixel adds to the logit, from ``evidence_map``.
    """

    index: int
    kind: Kind
    picture: NDArray[np.uint8]
    residual: NDArray[np.float32]
    selected: NDArray[np.float64]
    spread: NDArray[np.float64]


def choose_examples(
    labels: Sequence[int | None], logits: NDArray[np.float32], sets: Sequence[str], threshold: float, count: int
) -> list[tuple[int, Kind]]:
    """Which pictures to look at: shared out over what is real or fake and judged right or wrong.

    Of the right ones, and where labels are unknown, the surest of each test set take turns, because the surest of all
    are often of one set and alike. Of the wrong ones the worst come first, whatever their set.

    Args:
        labels: label of each picture, ``N`` of them; 0 is real, 1 is fake, None is unknown.
        logits: float32 or float64 ``(N,)``.
        sets: name of each picture's test set, ``N`` of them.
        threshold: logit above which a picture is fake.
        count: number of examples at most.

    Returns:
        Indices into the list with their kind, kind by kind.
    """
    members: dict[Kind, list[int]] = {kind: [] for kind in _KINDS}
    for index in np.argsort(-np.abs(logits.astype(np.float64) - threshold), kind="stable"):
        members[Kind(labels[index], int(logits[index] > threshold))].append(int(index))
    shares = share_out(count, [len(members[kind]) for kind in _KINDS])
    return [
        (index, kind)
        for kind, share in zip(_KINDS, shares, strict=True)
        for index in (members[kind] if kind.right is False else _take_turns(members[kind], sets))[:share]
    ]


def selects_positions(model: LFM) -> bool:
    """Whether its pooling selects values at positions, as Top-K does, instead of mixing them."""
    return hasattr(model.pool, "select")


class Explainer:
    """Says what a network saw; exact, and only where Top-K pooling selected values at positions."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Prepare the network.

        Raises:
            ConfigError: the network's pooling selects no positions.
        """
        model = checkpoint.build_model()
        if not selects_positions(model):
            raise ConfigError(
                f"evidence maps need Top-K pooling, which selects values at positions; "
                f"this network pools by {model.pool}"
            )
        self._config = checkpoint.config
        self._weight = checkpoint.state["fc.weight"].numpy()
        self._evidence = CheckpointEvidence(checkpoint)

    def explain(self, index: int, kind: Kind, picture: NDArray[np.uint8]) -> Example:
        """Look at one picture, uint8 ``(H, W, 3)``."""
        evidence = self._evidence.evidence(picture[None])
        contributions = evidence_contributions(evidence.values, self._weight)[0]
        positions, size = evidence.positions[0], picture.shape[:2]
        each = evidence_map(np.ones_like(contributions), positions, self._config, *size)
        return Example(
            index=index,
            kind=kind,
            picture=picture,
            residual=residual_levels(picture),
            selected=each * self._config.receptive_field**2,  # the map shares each value out over its square of pixels
            spread=evidence_map(contributions, positions, self._config, *size),
        )


def residual_levels(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """|NPR| of raw pixels in grey levels, mean over the colours: uint8 ``(H, W, 3)`` -> float32 ``(H, W)``."""
    anchors = picture[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
    levels: NDArray[np.float32] = np.abs(picture.astype(np.float32) - anchors).mean(axis=2)
    return levels


def _take_turns(indices: list[int], sets: Sequence[str]) -> list[int]:
    """The first of each test set, then the second of each, and so on."""
    turns: dict[str, int] = {}
    keys = []
    for place, index in enumerate(indices):
        turn = turns.get(sets[index], 0)
        turns[sets[index]] = turn + 1
        keys.append((turn, place, index))
    return [index for _, _, index in sorted(keys)]
