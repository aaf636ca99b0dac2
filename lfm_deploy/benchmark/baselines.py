"""Another network beside that of a workdir, to be measured in the same rounds."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from export.graph import ExportConfig
from lfm_deploy.config import NAMED
from lfm_deploy.deployment.deployment import export_into
from lfm_deploy.deployment.lineup import Candidate, find_candidates
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.workdir import Workdir


@contextmanager
def open_baseline(path: Path, device: str, on_message: Callable[[str], None]) -> Iterator[list[Candidate]]:
    """The engines of another network, each called by its network too: ``npr onnxruntime fp32``.

    Args:
        path: workdir, all of whose engines are taken; or checkpoint, which is exported for as long as this is open.
        device: device that PyTorch and ONNX Runtime run on: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        on_message: callback that gets lines for people.

    Raises:
        CheckpointError: the file is no checkpoint.
        ArtifactError: nothing was exported into the folder, or something there is damaged or stale.
    """
    if path.is_dir():
        yield _named(path, find_candidates(Workdir(path), device))
        return
    with tempfile.TemporaryDirectory(prefix="lfm-baseline-") as name:
        workdir = Workdir(Path(name) / "deploy")
        on_message(f"exporting {path} to measure it")
        export_into(workdir, path, ExportConfig(), on_message)
        yield _named(path, find_candidates(workdir, device))


def _named(path: Path, candidates: list[Candidate]) -> list[Candidate]:
    """The candidates, by the published name of their network, else by that of the file."""
    config = read_checkpoint(candidates[0].path).config
    known = (name for name, published in NAMED.items() if published == config)
    prefix = next(known, path.resolve().stem)
    return [replace(one, name=f"{prefix} {one.name}") for one in candidates]
