"""Starting a run and going on with one: from names of recipes and folders to a loop that can work."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lfm_deploy.errors import CheckpointError, ConfigError, InputError, SuiteError, first_line
from lfm_deploy.storage.atomic import remove_leftovers
from lfm_deploy.storage.folder_lock import lock_folder
from lfm_deploy.storage.overlap import lies_in
from training.data import DataSplit, load_folders
from training.demonstration_data import make_demonstration_split
from training.distributed import Share
from training.recipe import DEMONSTRATION, TrainingRecipe
from training.state import RunFolder, RunState, read_state, require_state
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
        InputError: the folder holds a run, is trained in now or cannot be written; or the recipe needs ``data`` and has
            none, or takes none.
        SuiteError: a folder, category or class of the data is missing, or holds no picture.
        TrainingError, SavingError, InterruptedTrainingError: the run ended before its last epoch; see ``Loop.finish``.
    """
    run_folder, share = RunFolder(folder), share or Share()
    _check_place_of_files(folder, data)
    _check_free(run_folder, overwrite)
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
    with _hold(run_folder, share):
        if share.leads:
            _check_free(run_folder, overwrite)  # another run may have begun and ended here meanwhile
            run_folder.state.unlink(missing_ok=True)  # of an older run, which would be gone on with otherwise
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
    run_folder, share = RunFolder(folder), share or Share()
    require_state(run_folder.state)
    with _hold(run_folder, share):
        run, network = read_state(run_folder.state)
        try:
            recipe = TrainingRecipe.from_values(run.recipe["name"], run.recipe)
        except ConfigError as error:
            raise CheckpointError(f"{run_folder.state}: {error}; start the run again") from None
        if recipe.as_dict() != run.recipe:  # a key that is missing would be filled with what the run did not do
            raise CheckpointError(f"{run_folder.state}: its recipe is not all that a run writes; start the run again")
        where = data if data is not None or run.source["path"] is None else Path(run.source["path"])
        split = _load_data(recipe, where)
        if split.sha256 != run.source["sha256"]:
            raise SuiteError(
                f"{where or 'the demonstration data'}: not the pictures that {folder} was trained on so far"
            )
        stepper = Stepper(recipe, device or torch.device("cpu"), share)
        try:
            stepper.load_state(network)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{run_folder.state}: of another network or version ({first_line(error)}); start again"
            ) from None
        loop = Loop(recipe, split, run_folder, run, stepper, conduct or Conduct())
        _check_place(loop)
        return _finish(loop)


def _check_place(loop: Loop) -> None:
    """Refuse a state whose place in the run cannot be.

    Raises:
        CheckpointError: the place lies behind the last epoch or step, or its parts contradict each other.
    """
    run, done = loop.run, loop.stepper.steps_done
    fits = run.epoch * loop.steps + run.step == done and run.right <= run.step * loop.recipe.batch
    if not fits or run.step > loop.steps or run.epoch > loop.recipe.epochs:
        raise CheckpointError(
            f"{loop.folder.state}: stands at epoch {run.epoch}, step {run.step} after {done} steps, which cannot be "
            f"with {loop.steps} steps in each of {loop.recipe.epochs} epochs; start the run again"
        )


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


def _check_place_of_files(folder: Path, data: Path | None) -> None:
    for split in ("train", "val"):
        if data is not None and lies_in(folder, data / split):
            raise InputError(f"{folder}: lies among the pictures of {data / split}; choose another --output")


def _check_free(folder: RunFolder, overwrite: bool) -> None:
    if folder.state.exists() and not overwrite:
        raise InputError(f"{folder.path}: holds a run; go on with --resume {folder.path}, or choose another --output")


@contextmanager
def _hold(folder: RunFolder, share: Share) -> Iterator[None]:
    """Be the only run in a folder, which is made and cleared of leftovers; the first of several processes holds it.

    Raises:
        InputError: the folder is held by another process, or cannot be written.
    """

    def refuse(owner: str) -> None:
        raise InputError(
            f"{folder.path}: another lfm-deploy (process {owner}) trains here; wait for it, or choose another --output"
        )

    if not share.leads:
        yield
        return
    with lock_folder(folder.path, refuse):
        remove_leftovers(folder.path)
        yield


def _finish(loop: Loop) -> FinishedRun:
    loop.finish()
    run = loop.run
    assert run.best is not None  # noqa: S101  # a recipe has at least one epoch
    return FinishedRun(
        folder=loop.folder, recipe=loop.recipe, history=run.history, best=run.best, unreadable=run.unreadable
    )
