"""The training loop: epochs of steps, validation after each, and files from which a stopped run goes on."""

import io
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.errors import DeployError, SuiteError
from lfm_deploy.metrics.decisions import accuracy, average_precision
from lfm_deploy.network.checkpoint import write_checkpoint
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.version import __version__
from training.batches import Batch, count_steps, read_epoch
from training.curves import EventWriter, draw_curves
from training.data import DataSplit, ValidationPictures
from training.distributed import Share, gather_objects, sum_over_processes
from training.recipe import TrainingRecipe
from training.state import RunFolder, RunState, find_revision, save, write_state
from training.step import Stepper, learning_rate_at

_SCORED = 32  # pictures that are judged at once


class TrainingError(DeployError):
    """Training cannot go on."""


class InterruptedTrainingError(DeployError):
    """Training was asked to stop, and saved where it stood."""

    exit_code = 130


@dataclass(frozen=True, kw_only=True)
class Conduct:
    """How a run is watched and kept; nothing in here changes the weights.

    Attributes:
        save_steps: number of steps after which the state is saved; it is also saved after every epoch.
        workers: threads that read pictures; 0 reads between steps.
        on_epoch: function that is given each epoch's entry of ``history.json``.
        on_message: function that is given each line of text for people.
        on_progress: function that is given what is done, the steps done, and all steps.
        should_stop: function that is called after each step; True saves and stops.
    """

    save_steps: int = 200
    workers: int = 2
    on_epoch: Callable[[dict[str, Any]], None] = lambda _: None
    on_message: Callable[[str], None] = lambda _: None
    on_progress: Progress = ignore_progress
    should_stop: Callable[[], bool] = lambda: False


class Loop:
    """One run of a recipe over data, from wherever its state says."""

    def __init__(
        self,
        recipe: TrainingRecipe,
        data: DataSplit,
        folder: RunFolder,
        run: RunState,
        stepper: Stepper,
        conduct: Conduct,
    ) -> None:
        self.recipe, self.data, self.folder = recipe, data, folder
        self.run, self.stepper, self.conduct = run, stepper, conduct
        self.share: Share = stepper.share
        self.steps = count_steps(data.training.labels, recipe.batch)
        self._rows = self.share.rows(recipe.batch)
        self._revision = find_revision()

    def finish(self) -> None:
        """Train until all epochs are done.

        Raises:
            TrainingError: the loss or a validation logit is not finite.
            InterruptedTrainingError: the run was asked to stop.
            SavingError: a file could not be written.
            SuiteError: no picture of a class can be read.
        """
        for pictures in (self.data.training, self.data.validation):
            pictures.unreadable.update(self.run.unreadable)
        with ExitStack() as stack:
            pool = None
            if self.conduct.workers:
                pool = stack.enter_context(ThreadPoolExecutor(self.conduct.workers))
            events = None
            if self.share.leads:
                first = self.run.epoch + 1
                events = stack.enter_context(EventWriter(self.folder.events, first, self.conduct.on_message))
            while self.run.epoch < self.recipe.epochs:
                self._train_epoch(pool)
                entry = self.run.history[-1]
                if events is not None:
                    events.write(entry)
                self.conduct.on_epoch(entry)
        if self.share.leads:
            title = f"{self.recipe.name}, {len(self.run.history)} epochs"
            save(self.folder.curves, lambda path: draw_curves(self.run.history, path, title))

    def _train_epoch(self, pool: ThreadPoolExecutor | None) -> None:
        run, started, first = self.run, time.perf_counter(), self.run.step
        batches = read_epoch(
            self.data.training,
            batch=self.recipe.batch,
            rows=self._rows,
            seed=self.recipe.seed,
            epoch=run.epoch,
            first_step=first,
            pool=pool,
        )
        for batch in batches:
            self._take_step(batch)
            self.conduct.on_progress(f"epoch {run.epoch + 1} of {self.recipe.epochs}", run.step, self.steps)
        seconds = time.perf_counter() - started
        self._close_epoch((self.steps - first) * self.recipe.batch / seconds if seconds else 0.0)

    def _take_step(self, batch: Batch) -> None:
        run = self.run
        rate = learning_rate_at(self.recipe, self.stepper.steps_done, self.steps)
        lost, right = self.stepper.take(batch.images, batch.labels, rate)
        values = (lost / self.share.count, right, self.conduct.should_stop())
        loss, total_right, stop = sum_over_processes(values, self.share, self.stepper.device)
        if not np.isfinite(loss):
            raise self._broken(batch, lost)
        run.step += 1
        run.loss_sum += loss
        run.right += round(total_right)
        if stop:
            self._save_state()
            raise InterruptedTrainingError(
                f"stopped in epoch {run.epoch + 1} after step {run.step} of {self.steps}, and saved; go on with "
                f"'lfm-deploy train --resume {self.folder.path}'"
            )
        if run.step % self.conduct.save_steps == 0 and run.step < self.steps:
            self._save_state()

    def _close_epoch(self, images_per_second: float) -> None:
        """Validate, write the checkpoints, then the state: killed in between, the same files are written again."""
        run, seen = self.run, self.steps * self.recipe.batch
        acc, ap = self._validate()
        entry = {
            "epoch": run.epoch + 1,
            "loss": run.loss_sum / self.steps,
            "training_acc": run.right / seen,
            "acc": acc,
            "ap": ap,
            "learning_rate": learning_rate_at(self.recipe, self.stepper.steps_done - 1, self.steps),
            "images_per_second": images_per_second,
        }
        run.history.append(entry)
        better = run.best is None or _worth(entry) >= _worth(run.best)
        if better:
            run.best = entry
        run.epoch, run.step, run.loss_sum, run.right = run.epoch + 1, 0, 0.0, 0
        if self.share.leads:
            if better:
                self._write_checkpoint(self.folder.best, entry)
            self._write_checkpoint(self.folder.last, entry)
        self._save_state()
        if self.share.leads:
            save(self.folder.history, lambda path: _write_json(path, run.history))

    def _validate(self) -> tuple[float, float]:
        """ACC and AP on the validation pictures, each process judging its share of them."""
        validation = self.data.validation
        mine = range(self.share.index, len(validation.labels), self.share.count)
        scores: dict[int, float] = {}
        for numbers, images in validation.read_batches(mine, _SCORED):
            scores.update(zip(numbers, self.stepper.score(images).tolist(), strict=True))
            self.conduct.on_progress(f"epoch {self.run.epoch + 1}: validation", len(scores), len(mine))
        for part, unreadable in gather_objects(
            (scores, self.data.training.unreadable | validation.unreadable), self.share
        ):
            scores |= part
            self.run.unreadable |= unreadable
        rows = sorted(scores)
        return _judge(np.array([scores[row] for row in rows], np.float32), rows, validation)

    def _write_checkpoint(self, path: Path, entry: dict[str, Any]) -> None:
        recipe = self.recipe.as_dict() | {
            "data_sha256": self.run.source["sha256"],
            "git_revision": self._revision,
            "lfm_deploy": __version__,
            "processes": self.share.count,
        }
        metrics = {key: value for key, value in entry.items() if key != "images_per_second"}
        save(path, lambda temporary: write_checkpoint(temporary, self.stepper.model, recipe=recipe, metrics=metrics))

    def _save_state(self) -> None:
        if self.share.leads:
            write_state(self.folder.state, self.run, self.stepper.state())

    def _broken(self, batch: Batch, lost: float) -> TrainingError:
        content = io.BytesIO()
        np.savez_compressed(content, images=batch.images, labels=batch.labels, indices=batch.indices)
        path = self.folder.broken_batch
        if self.share.count > 1:
            path = path.with_stem(f"{path.stem}-{self.share.index}")
        save(path, lambda temporary: _write_bytes(temporary, content.getvalue()))
        return TrainingError(
            f"the loss is {lost} in epoch {self.run.epoch + 1}, step {self.run.step + 1}; its batch is in {path}; "
            "look at it, or lower the learning rate, and start again"
        )


def _worth(entry: dict[str, Any]) -> tuple[float, float]:
    """What checkpoints are chosen by; AP is a sum, whose rounding must not choose.

    Of equal ones the later is taken: easy validation pictures are all right long before training is over.
    """
    return round(entry["ap"], 9), entry["acc"]


def _judge(scores: NDArray[np.float32], rows: list[int], validation: ValidationPictures) -> tuple[float, float]:
    labels = validation.labels[rows]
    if len(np.unique(labels)) < 2:
        path, reason = next(iter(validation.unreadable.items()))
        raise SuiteError(f"validation needs readable pictures of both classes; unreadable is {path}: {reason}")
    if not np.isfinite(scores).all():
        raise TrainingError("a validation logit is not finite; lower the learning rate")
    return accuracy(scores, labels), average_precision(scores, labels)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
