"""What a network makes of pictures: its vectors on a plane, and a close look at some of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from lfm_deploy.errors import DeployError, InputError
from lfm_deploy.exploration.embedding import Embedding, choose_perplexity, embed, measure_separation
from lfm_deploy.exploration.examples import Example, Explainer, choose_examples, selects_positions
from lfm_deploy.exploration.specimens import Specimen
from lfm_deploy.network.checkpoint import Checkpoint
from lfm_deploy.network.model import LFM, normalise
from lfm_deploy.pictures.images import SkippedImage, read_batches, read_image
from lfm_deploy.progress import Progress, ignore_progress

# Bounds memory at native size too, where pictures can be large.
_BATCH = 8


@dataclass(kw_only=True)
class Exploration:
    """Everything that was found out about N pictures.

    Attributes:
        specimens: N pictures that could be read.
        vectors: values that pooling hands to the linear layer, float32 ``(N, D)``; for LFM the TKP vectors.
        logits: float32 ``(N,)``; above the threshold is fake.
        threshold: logit above which a picture is fake.
        embedding: map of the vectors.
        separation: silhouette score of real against fake over all vectors; None where a class is missing.
        separations: silhouette score of real against fake by test set; None where a class is missing.
        vectors_name: name of the vectors in texts for people.
        examples: pictures that were looked at closely.
        no_examples: reason why there are no examples; None where they were made or not asked for.
        skipped: pictures that could not be read, with the reason.
    """

    specimens: list[Specimen]
    vectors: NDArray[np.float32]
    logits: NDArray[np.float32]
    threshold: float
    embedding: Embedding
    separation: float | None
    separations: dict[str, float | None]
    vectors_name: str
    examples: list[Example] = field(default_factory=list)
    no_examples: str | None = None
    skipped: list[SkippedImage] = field(default_factory=list)


def explore(
    checkpoint: Checkpoint,
    specimens: Sequence[Specimen],
    *,
    threshold: float = 0.0,
    perplexity: float | None = None,
    seed: int = 0,
    maps: int = 12,
    on_progress: Progress = ignore_progress,
) -> Exploration:
    """Run a checkpoint in PyTorch over pictures, lay its vectors out by t-SNE, and look closely at some of them.

    Args:
        checkpoint: checkpoint from ``read_checkpoint``.
        specimens: pictures from ``find_specimens`` and ``draw_sample``; 10 or more.
        threshold: logit above which a picture is fake.
        perplexity: perplexity of t-SNE; None chooses one that fits the number of pictures.
        seed: seed of t-SNE.
        maps: number of pictures to look at closely at most; 0 for none.
        on_progress: function that is given the name of a step, how much of it is done, and of how much.

    Raises:
        ConfigError: the perplexity does not fit the number of pictures.
        DeployError: the network gives a vector that is no number.
        InputError: too few pictures can be read, or all give the same vector.
    """
    choose_perplexity(len(specimens), perplexity)  # before minutes of work
    model = checkpoint.build_model()
    kept, vectors, logits, skipped = _run(model, specimens, on_progress)
    labels = np.array([-1 if specimen.label is None else specimen.label for specimen in kept])
    sets = [specimen.test_set for specimen in kept]
    on_progress("laying out", 0, 1)
    found = Exploration(
        specimens=kept,
        vectors=vectors,
        logits=logits,
        threshold=threshold,
        embedding=embed(vectors, perplexity=perplexity, seed=seed),
        separation=measure_separation(vectors, labels),
        separations={name: _separate(name, sets, vectors, labels) for name in dict.fromkeys(sets)},
        vectors_name="TKP vectors" if selects_positions(model) else "Pooled vectors",
        skipped=skipped,
    )
    _add_examples(found, checkpoint, maps, on_progress)
    return found


def _separate(name: str, sets: list[str], vectors: NDArray[np.float32], labels: NDArray[np.integer]) -> float | None:
    inside = np.array([part == name for part in sets])
    return measure_separation(vectors[inside], labels[inside])


def _run(
    model: LFM, specimens: Sequence[Specimen], on_progress: Progress
) -> tuple[list[Specimen], NDArray[np.float32], NDArray[np.float32], list[SkippedImage]]:
    """What could be read, its vectors ``(N, D)`` and logits ``(N,)``, and what could not."""
    kept, vectors, logits, skipped = list[Specimen](), list[NDArray[np.float32]](), list[NDArray[np.float32]](), []
    done = 0
    for size, group in groupby(specimens, key=lambda specimen: specimen.size):
        part = list(group)
        batches = read_batches([specimen.path for specimen in part], size, batch=_BATCH, config=model.config)
        for batch in batches:
            skipped += batch.skipped
            done += len(batch.indices) + len(batch.skipped)
            if batch.indices:
                with torch.inference_mode():
                    pooled = model.features(normalise(torch.from_numpy(np.ascontiguousarray(batch.images))))
                    logits.append(model.fc(pooled).squeeze(1).numpy())
                vectors.append(pooled.numpy())
                kept += [part[index] for index in batch.indices]
            on_progress("looking at pictures", done, len(specimens))
    if not kept:
        raise InputError(
            f"none of {len(skipped)} pictures can be read; the first is {skipped[0].path}: {skipped[0].reason}"
        )
    everything = np.concatenate(vectors)
    if not np.isfinite(everything).all():
        first = kept[int(np.argmin(np.isfinite(everything).all(axis=1)))]
        raise DeployError(
            f"{first.path}: the network's vector of it is not finite; was this checkpoint trained to the end?"
        )
    return kept, everything, np.concatenate(logits), skipped


def _add_examples(found: Exploration, checkpoint: Checkpoint, maps: int, on_progress: Progress) -> None:
    if not maps:
        return
    try:
        explainer = Explainer(checkpoint)
    except DeployError as error:
        found.no_examples = str(error)
        return
    labels = [specimen.label for specimen in found.specimens]
    sets = [specimen.test_set for specimen in found.specimens]
    chosen = choose_examples(labels, found.logits, sets, found.threshold, maps)
    for done, (index, kind) in enumerate(chosen):
        on_progress("looking closely", done, len(chosen))
        specimen = found.specimens[index]
        picture = read_image(specimen.path, specimen.size, checkpoint.config)
        found.examples.append(explainer.explain(index, kind, picture))
    on_progress("looking closely", len(chosen), len(chosen))
