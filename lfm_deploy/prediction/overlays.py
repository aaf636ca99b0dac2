"""Pictures of where verdicts came from, one PNG each."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.engine import Engine
from lfm_deploy.artifacts import InputForm, Precision
from lfm_deploy.config import ModelConfig, check_explainable
from lfm_deploy.engine_info import read_descent
from lfm_deploy.errors import ArtifactError, WriteError
from lfm_deploy.network.checkpoint import Checkpoint, read_checkpoint
from lfm_deploy.network.evidence import Evidence, draw_evidence, evidence_contributions, evidence_map
from lfm_deploy.prediction.rows import Prediction
from lfm_deploy.storage.atomic import write_atomically
from lfm_deploy.workdir import Workdir

_LONGEST_STEM = 80


class _Explaining(Protocol):
    def evidence(self, images: NDArray[np.uint8]) -> Evidence: ...


class OverlayWriter:
    """Draws overlays into a folder: red where a picture speaks for fake, blue for real, grey where it is silent.

    ``000042-name.png`` is of row 42 of the list, counted from 1, so that equal names in different folders stay apart.

    Attributes:
        origin: source of the explanations: the engine itself, or the checkpoint where the engine gives no evidence.
    """

    def __init__(self, folder: Path, workdir: Workdir, engine: Engine, path: Path) -> None:
        """Find who can explain.

        Args:
            folder: folder for the PNG files; made where it is missing.
            workdir: workdir with ``lfm.pth``, whose linear layer says how much a selected value counts.
            engine: engine that gives the verdicts.
            path: path of the engine's file.

        Raises:
            ArtifactError: the checkpoint is missing, or not the one that the engine was made from.
            ConfigError: the network gives no evidence.
            WriteError: the folder cannot be made.
        """
        sha256, explains = read_descent(path)
        checkpoint = _read_origin(workdir, path, sha256)
        check_explainable(checkpoint.config, str(path))
        self._weight = checkpoint.state["fc.weight"].numpy()
        self._config = checkpoint.config
        if explains and hasattr(engine, "evidence"):
            self._explaining: _Explaining = cast(_Explaining, engine)
            self.origin = path.name
        else:
            self._explaining = CheckpointEvidence(checkpoint)
            self.origin = f"{workdir.checkpoint.name} in PyTorch, float32"
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(folder, error, "choose another folder with --evidence") from None

    def write(self, rows: Sequence[Prediction], images: NDArray[np.uint8]) -> None:
        """Draw one overlay a row.

        Args:
            rows: rows of the pictures, N of them.
            images: pictures as they were judged, uint8 ``(N, H, W, 3)``.
        """
        evidence = self._explaining.evidence(images)
        overlays = _draw_overlays(evidence, self._weight, self._config, images)
        for row, overlay in zip(rows, overlays, strict=True):
            with write_atomically(self._folder / overlay_name(row)) as temporary:
                overlay.save(temporary, format="PNG")


class CheckpointOverlays:
    """Draws overlays by a checkpoint in PyTorch, for whoever has no engine."""

    def __init__(self, path: Path) -> None:
        """Read the checkpoint.

        Raises:
            CheckpointError: the checkpoint is missing, damaged, or of another network.
        """
        checkpoint = read_checkpoint(path)
        self._weight = checkpoint.state["fc.weight"].numpy()
        self._config = checkpoint.config
        self._explaining = CheckpointEvidence(checkpoint)

    def draw(self, images: NDArray[np.uint8]) -> Iterator[Image.Image]:
        """One overlay a picture; ``images`` is uint8 ``(N, H, W, 3)``, as they were judged."""
        yield from _draw_overlays(self._explaining.evidence(images), self._weight, self._config, images)


def overlay_name(row: Prediction) -> str:
    """Name of a row's overlay, unique in its list."""
    stem = re.sub(r"[^\w.-]", "_", PurePosixPath(row.path).stem)[:_LONGEST_STEM]
    return f"{row.index + 1:06}-{stem}.png"


def _draw_overlays(
    evidence: Evidence, weight: NDArray[np.float32], config: ModelConfig, images: NDArray[np.uint8]
) -> Iterator[Image.Image]:
    contributions = evidence_contributions(evidence.values, weight)
    height, width = images.shape[1:3]
    for picture, shares, positions in zip(images, contributions, evidence.positions, strict=True):
        yield draw_evidence(picture, evidence_map(shares, positions, config, height, width))


class CheckpointEvidence:
    """The checkpoint in PyTorch, in the form in which graphs are exported."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from export.inference import InferenceForm

        self._form = InferenceForm(checkpoint.build_model(), InputForm.UINT8, Precision.FP32, evidence=True).eval()

    def evidence(self, images: NDArray[np.uint8]) -> Evidence:
        """Evidence of uint8 ``(N, H, W, 3)``, all of one size."""
        import torch

        with torch.inference_mode():
            logits, values, positions = self._form(torch.from_numpy(np.ascontiguousarray(images)))
        return Evidence(logits=logits.numpy(), values=values.numpy(), positions=positions.numpy())


def _read_origin(workdir: Workdir, path: Path, sha256: str | None) -> Checkpoint:
    if sha256 is None:
        return read_checkpoint(path)
    if not workdir.checkpoint.is_file():
        raise ArtifactError(
            f"{workdir.checkpoint}: no such file, and evidence needs the checkpoint that {path.name} was made from; "
            f"run 'lfm-deploy export CHECKPOINT.pth --evidence --workdir {workdir.path}'"
        )
    checkpoint = read_checkpoint(workdir.checkpoint)
    if checkpoint.sha256 != sha256:
        raise ArtifactError(
            f"{path}: was made from another checkpoint than {workdir.checkpoint}, which therefore cannot explain it; "
            "use --workdir with the one that belongs to it"
        )
    return checkpoint
