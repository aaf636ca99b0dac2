"""An exploration as plain values for JSON; pictures, page and terminal are views of it."""

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from lfm_deploy.environment import EnvironmentValues, describe_environment
from lfm_deploy.exploration.embedding import ITERATIONS
from lfm_deploy.exploration.examples import VERDICTS, Example
from lfm_deploy.exploration.exploration import Exploration
from lfm_deploy.network.checkpoint import Checkpoint
from lfm_deploy.report.exploration_schema import (
    EmbeddingValues,
    ExampleValues,
    ExplorationReport,
    JudgedCounts,
    PointValues,
)

_FORMAT = "lfm-deploy exploration 1"


def make_exploration_report(
    found: Exploration, checkpoint: Checkpoint, *, file: Path, pictures: str, available: int, seed: int, command: str
) -> ExplorationReport:
    """Everything but the pixels.

    Args:
        found: exploration from ``explore``.
        checkpoint: checkpoint that was explored.
        file: path of the checkpoint's file.
        pictures: folder or suite that was asked for.
        available: number of pictures that the sample was drawn from.
        seed: seed of the sample and of t-SNE.
        command: command line that makes the report again.
    """
    points = _points(found)
    return {
        "format": _FORMAT,
        "command": command,
        "seed": seed,
        "pictures": shown(pictures),
        "checkpoint": {
            "file": shown(file.name),
            "sha256": checkpoint.sha256,
            "layout": checkpoint.layout,
            "config": checkpoint.config.as_dict(),
        },
        "threshold": found.threshold,
        "counts": {"available": available, "skipped": len(found.skipped), **_count(points)},
        "embedding": _embedding(found),
        "silhouette": found.separation,
        "sets": [
            {"set": name, "silhouette": score, **_count([point for point in points if point["set"] == name])}
            for name, score in found.separations.items()
        ],
        "examples": [_example(example, points[example.index]) for example in found.examples],
        "no_examples": found.no_examples,
        "skipped": [{"path": shown(picture.path), "reason": shown(picture.reason)} for picture in found.skipped],
        "points": points,
        "environment": _environment(),
    }


def shown(name: Path | str) -> str:
    """A name as text that can be written anywhere: bytes that are no UTF-8 become replacement characters."""
    return os.fsencode(name).decode(errors="replace")


def _points(found: Exploration) -> list[PointValues]:
    return [
        {
            "path": shown(specimen.path),
            "set": shown(specimen.test_set),
            "label": specimen.label,
            "logit": float(logit),
            "verdict": VERDICTS[int(logit > found.threshold)],
            "right": None if specimen.label is None else bool(specimen.label == (logit > found.threshold)),
            "x": float(x),
            "y": float(y),
        }
        for specimen, logit, (x, y) in zip(found.specimens, found.logits, found.embedding.points, strict=True)
    ]


def _count(points: Sequence[PointValues]) -> JudgedCounts:
    labels = [point["label"] for point in points]
    return {
        "judged": len(points),
        "real": labels.count(0),
        "fake": labels.count(1),
        "unlabelled": labels.count(None),
        "right": sum(point["right"] is True for point in points),
        "wrong": sum(point["right"] is False for point in points),
    }


def _embedding(found: Exploration) -> EmbeddingValues:
    embedding = found.embedding
    return {
        "vectors": found.vectors_name,
        "method": "t-SNE, started from the first two principal components",
        "preparation": f"every value standardised, then {embedding.components} principal components, which hold "
        f"{100 * embedding.explained:.1f} % of the variance",
        "dimensions": embedding.dimensions,
        "components": embedding.components,
        "explained": embedding.explained,
        "perplexity": embedding.perplexity,
        "iterations": ITERATIONS,
        "kl_divergence": embedding.divergence,
    }


def _example(example: Example, point: PointValues) -> ExampleValues:
    return {
        "kind": example.kind.title,
        "path": point["path"],
        "set": point["set"],
        "label": point["label"],
        "logit": point["logit"],
        "verdict": point["verdict"],
        "right": point["right"],
        "most_selected": round(float(example.selected.max())),
    }


def _environment() -> EnvironmentValues:
    environment = describe_environment()
    environment["libraries"] |= {name: version(name) for name in ("scikit-learn", "matplotlib")}
    return environment
