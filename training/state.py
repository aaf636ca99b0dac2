"""What a run leaves in its folder, each file whole or not at all: checkpoints, and the state to go on from."""

import math
import reprlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from lfm_deploy.errors import CheckpointError, DeployError
from lfm_deploy.network.checkpoint_file import load_tensors
from lfm_deploy.storage.atomic import write_atomically

FORMAT = "lfm-deploy training state 1"
ENTRY_KEYS = frozenset({"epoch", "loss", "training_acc", "acc", "ap", "learning_rate", "images_per_second"})


class SavingError(DeployError):
    """A file of a run could not be written; the one before it is whole."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Names of a run's files.

    ``best.pth`` and ``last.pth`` are checkpoints to deploy; ``state.pth`` is what ``--resume`` reads; ``history.json``
    and ``curves.png`` have the epochs; ``events/`` is for TensorBoard; ``nan-batch.npz`` is what broke the loss.
    """

    path: Path

    @property
    def best(self) -> Path:
        """The checkpoint with the highest validation AP; of equal ones, that with the highest ACC, then the last."""
        return self.path / "best.pth"

    @property
    def last(self) -> Path:
        """The checkpoint of the last epoch."""
        return self.path / "last.pth"

    @property
    def state(self) -> Path:
        """All that the next step depends on."""
        return self.path / "state.pth"

    @property
    def history(self) -> Path:
        """What each epoch gave."""
        return self.path / "history.json"

    @property
    def curves(self) -> Path:
        """The same to look at."""
        return self.path / "curves.png"

    @property
    def events(self) -> Path:
        """Event files for TensorBoard."""
        return self.path / "events"

    @property
    def broken_batch(self) -> Path:
        """Pixels, labels and numbers of the pictures whose loss was not finite."""
        return self.path / "nan-batch.npz"


@dataclass(kw_only=True)
class RunState:
    """Where a run stands, beside its network and optimiser.

    Attributes:
        recipe: plain values of the recipe.
        source: path and SHA-256 of the data: ``{"path": ..., "sha256": ...}``.
        epoch: epoch of the next step, from 0.
        step: number of the next step in that epoch, from 0.
        loss_sum, right: sum of the losses and number of right decisions over the steps of that epoch that were done.
        history: entry of each epoch, as plain values.
        best: entry of ``history`` that belongs to the best checkpoint.
        unreadable: files that could not be read, with the reason.
    """

    recipe: dict[str, Any]
    source: dict[str, Any]
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    right: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    unreadable: dict[str, str] = field(default_factory=dict)


def write_state(path: Path, run: RunState, network: dict[str, Any]) -> None:
    """Write where a run stands.

    Args:
        path: path of ``state.pth``.
        run: position of the run.
        network: state from ``Stepper.state``.

    Raises:
        SavingError: the file cannot be written; the state before it is whole.
    """

    def write(temporary: Path) -> None:
        torch.save({"format": FORMAT, "run": vars(run), "network": network}, temporary)

    save(path, write)


def save(path: Path, write: Callable[[Path], None]) -> None:
    """Write one file of a run, whole or not at all.

    Raises:
        SavingError: the file cannot be written; what was there before is whole.
    """
    try:
        with write_atomically(path) as temporary:
            write(temporary)
    except OSError as error:
        raise _describe(path, error.strerror or str(error)) from None
    except RuntimeError as error:  # torch.save does not say what the system said
        reason = str(error).strip().partition("\n")[0]
        raise _describe(path, f"the disk took no more: {reason}") from None


def _describe(path: Path, reason: str) -> SavingError:
    return SavingError(
        f"{path}: cannot be written ({reason}); what was saved before is whole: make room, then go on with "
        f"'lfm-deploy train --resume {path.parent}'"
    )


def require_state(path: Path) -> None:
    """Make sure that there is a state.

    Raises:
        CheckpointError: there is none.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; --resume takes the folder of a run that was started here")


def read_state(path: Path) -> tuple[RunState, dict[str, Any]]:
    """Where a run stands, and the state of its network; read without running code from it, by its check sums.

    Raises:
        CheckpointError: there is no state, or the file is damaged, something else, or holds values that no run writes.
    """
    require_state(path)
    try:
        content = load_tensors(path)
    except CheckpointError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise _unusable(path, reason.rpartition(";")[0] or reason) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _unusable(path, "something else than the state of a training run")
    run, network = content.get("run"), content.get("network")
    if not isinstance(run, dict) or set(run) != {key.name for key in fields(RunState)} or not isinstance(network, dict):
        raise _unusable(path, "values are missing")
    if (odd := _find_odd(run)) is not None:
        raise _unusable(path, f"{odd} is {reprlib.repr(run[odd])}, which no run writes")
    return RunState(**run), network


def _unusable(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: {reason}; start the run again with another --output")


def _find_odd(run: dict[str, Any]) -> str | None:
    """The first value that no run writes; None where all are as they are written."""
    epoch, history, best, source = run["epoch"], run["history"], run["best"], run["source"]
    checks = {
        "recipe": isinstance(run["recipe"], dict) and isinstance(run["recipe"].get("name"), str),
        "source": isinstance(source, dict)
        and set(source) == {"path", "sha256"}
        and isinstance(source["path"], str | None)
        and isinstance(source["sha256"], str),
        "epoch": _is_count(epoch),
        "step": _is_count(run["step"]),
        "loss_sum": _is_number(run["loss_sum"]),
        "right": _is_count(run["right"]),
        "history": isinstance(history, list) and len(history) == epoch and all(map(_is_entry, history)),
        "best": best in history if isinstance(history, list) and history else best is None,
        "unreadable": isinstance(run["unreadable"], dict)
        and all(isinstance(text, str) for pair in run["unreadable"].items() for text in pair),
    }
    return next((name for name, holds in checks.items() if not holds), None)


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and set(entry) == ENTRY_KEYS and all(map(_is_number, entry.values()))


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def find_revision() -> str | None:
    """Git revision of this code, with ``+changed`` where files differ from it; None outside a checkout."""
    here = Path(__file__).resolve()

    def ask(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        ask("ls-files", "--error-unmatch", here.name)  # an installed package may lie in somebody else's repository
        revision = ask("rev-parse", "HEAD")
        return f"{revision}+changed" if ask("status", "--porcelain", "--untracked-files=no") else revision
    except (OSError, subprocess.SubprocessError):
        return None
