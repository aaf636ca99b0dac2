"""Starting a run and going on with one: from names of recipes and folders to a loop that can work."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lfm_deploy.errors import CheckpointError, ConfigError, InputError, SuiteError
from lfm_deploy.storage.atomic import remove_leftovers
from training.data import DataSplit, load_folders
from training.demonstration_data import make_demonstration_split
from training.distributed import Share
from training.recipe import DEMONSTRATION, TrainingRecipe
from training.state import RunFolder, RunState, read_state
from training.step import Stepper
from training.train import Conduct, Loop


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """What a run gave.

    Attributes:
        folder: folder with the files of the run.
        recipe: recipe that was trained.
        history: an entry for each epoch.
        best: entry of ``history`` that belongs to the best checkpoint.
        unreadable: files that could not be read, with the reason.
    """

    folder: RunFolder
    recipe: TrainingRecipe
    history: list[dict[str, Any]]
    best: dict[str, Any]
    unreadable: dict[str, str]


def start_run(
    recipe: TrainingRecipe,
    folder: Path,
    *,
    data: Path | None = None,
    overwrite: bool = False,
    device: torch.device | None = None,
    share: Share | None = None,
    conduct: Conduct | None = None,
) -> FinishedRun:
    """Train a recipe from scratch; the folder has checkpoints and state afterwards.

    Args:
        recipe: recipe to train by.
        folder: folder of the run, which is made.
        data: folder with ``train/`` and ``val/``, for recipes that learn from folders.
        overwrite: whether a run that lies there already may be lost.
        device: device to train on; None is the CPU.
        share: part of the work that this process does, where there are several.
        conduct: settings of how the run is watched and saved.

    Raises:
        InputError: the folder holds a run, or the recipe needs ``data`` and has none, or takes none.
        SuiteError: a folder, category or class of the data is missing, or holds no picture.
        TrainingError, SavingError, InterruptedTrainingError: the run ended before its last epoch; see ``Loop.finish``.
    """
    run_folder, share = RunFolder(folder), share or Share()
    if run_folder.state.exists() and not overwrite:
        raise InputError(f"{folder}: holds a run; go on with --resume {folder}, or choose another --output")
    split = _load_data(recipe, data)
    source = {"path": None if data is None else str(data.resolve()), "sha256": split.sha256}
    stepper = Stepper(recipe, device or torch.device("cpu"), share)
    loop = Loop(
        recipe,
        split,
        run_folder,
        RunState(recipe=recipe.as_dict(), source=source),
        stepper,
        conduct or Conduct(),
    )
    if share.leads:
        _clear(run_folder)
    _say_left_out(split, data, loop.conduct)
    return _finish(loop)


def resume_run(
    folder: Path,
    *,
    data: Path | None = None,
    device: torch.device | None = None,
    share: Share | None = None,
    conduct: Conduct | None = None,
) -> FinishedRun:
    """Go on with a run; on a CPU in one process the weights become those of a run that was never stopped.

    Args:
        folder: folder of the run.
        data: folder where the data lies now, if it was moved.
        device: device to train on; None is the CPU.
        share: part of the work that this process does, where there are several.
        conduct: settings of how the run is watched and saved.

    Raises:
        CheckpointError: the folder holds no state, or a damaged one.
        SuiteError: the data is not that of the run.
        TrainingError, SavingError, InterruptedTrainingError: the run ended before its last epoch; see ``Loop.finish``.
    """
    run_folder = RunFolder(folder)
    run, network = read_state(run_folder.state)
    recipe = TrainingRecipe.from_values(run.recipe["name"], run.recipe)
    where = data if data is not None or run.source["path"] is None else Path(run.source["path"])
    split = _load_data(recipe, where)
    if split.sha256 != run.source["sha256"]:
        raise SuiteError(f"{where or 'the demonstration data'}: not the pictures that {folder} was trained on so far")
    stepper = Stepper(recipe, device or torch.device("cpu"), share)
    try:
        stepper.load_state(network)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{run_folder.state}: of another network or version ({reason}); start again") from None
    if stepper.share.leads:
        remove_leftovers(folder)
    return _finish(Loop(recipe, split, run_folder, run, stepper, conduct or Conduct()))


def _say_left_out(split: DataSplit, data: Path | None, conduct: Conduct) -> None:
    if text := split.left_out.describe():
        conduct.on_message(f"{data}: {text}")


def _load_data(recipe: TrainingRecipe, data: Path | None) -> DataSplit:
    if recipe.data == DEMONSTRATION:
        if data is not None:
            raise ConfigError(f"recipe {recipe.name} makes its own data; leave --data out")
        return make_demonstration_split(recipe.tiles, recipe.augmentation(), recipe.seed)
    if data is None:
        raise ConfigError(f"recipe {recipe.name} learns from pictures; give --data, the folder with train/ and val/")
    return load_folders(data, recipe.classes, recipe.resize, recipe.augmentation())


def _clear(folder: RunFolder) -> None:
    """Make the folder, without the state of an older run, which would be gone on with otherwise."""
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.state.unlink(missing_ok=True)
    remove_leftovers(folder.path)


def _finish(loop: Loop) -> FinishedRun:
    loop.finish()
    run = loop.run
    assert run.best is not None  # noqa: S101  # a recipe has at least one epoch
    return FinishedRun(
        folder=loop.folder, recipe=loop.recipe, history=run.history, best=run.best, unreadable=run.unreadable
    )
