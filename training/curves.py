"""How a training went: a picture of its curves, and event files for TensorBoard."""

import itertools
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

# Names of an epoch's figures in history.json, and under which heading TensorBoard shows them.
_SCALARS = {
    "loss": "training/loss",
    "training_acc": "training/ACC",
    "learning_rate": "training/learning rate",
    "images_per_second": "training/images per second",
    "acc": "validation/ACC",
    "ap": "validation/AP",
}
_COUNT = itertools.count()  # of the files of one process, which may be made within a second
_LOSS, _TRAINING, _ACC, _AP = "#6b7785", "#9fb8d0", "#3b82c4", "#d6604d"


def draw_curves(history: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Write a PNG: loss on the left; accuracy in training, and validation ACC and AP, on the right.

    Args:
        history: entries of ``history.json``, at least one.
        path: path of the PNG; a file there is overwritten.
        title: title above the plots.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = [entry["epoch"] for entry in history]
    marker = "o" if len(epochs) < 30 else None
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [entry["loss"] for entry in history], color=_LOSS, marker=marker, markersize=3)
    left.set(ylabel="mean training loss", ylim=(0, None))
    for key, label, colour in (
        ("training_acc", "ACC in training", _TRAINING),
        ("acc", "validation ACC", _ACC),
        ("ap", "validation AP", _AP),
    ):
        values = [100 * entry[key] for entry in history]
        right.plot(epochs, values, label=label, color=colour, marker=marker, markersize=3)
    right.set(ylabel="%", ylim=(None, 101))
    right.legend(frameon=False, fontsize=8, loc="best")
    for axes in (left, right):
        axes.set(xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    figure.savefig(path, dpi=130, format="png")


class EventWriter:
    """Event files for TensorBoard, where it is installed; without it nothing is written.

    Records are written here and now: TensorBoard's own writer does so in a thread, which dies with a traceback of its
    own where the disk is full.
    """

    def __init__(self, folder: Path, first_epoch: int, on_message: Callable[[str], None]) -> None:
        """Open a file; events of this epoch (from 1) and later ones, left by a run that was killed, are hidden.

        Args:
            folder: path of the folder for event files, which is made.
            first_epoch: first epoch that is to come, from 1.
            on_message: function that is given a line of text where nothing is written, or no more.
        """
        self._file: Any = None
        self._folder, self._on_message = folder, on_message
        try:
            from tensorboard.compat.proto.event_pb2 import SessionLog
        except ImportError:
            on_message("no event files: TensorBoard is missing; pip install 'lfm-deploy[train]'")
            return
        name = f"events.out.tfevents.{int(time.time()):010}.{socket.gethostname()}.{os.getpid()}.{next(_COUNT)}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / name).open("wb", buffering=0)
        except OSError as error:
            self._give_up(error)
            return
        self._add(file_version="brain.Event:2")
        self._add(step=first_epoch, session_log=SessionLog(status=SessionLog.START))

    @property
    def is_open(self) -> bool:
        """Whether events are written."""
        return self._file is not None

    def write(self, entry: Mapping[str, Any]) -> None:
        """The figures of one epoch, from its entry of ``history.json``."""
        if self._file is None:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=heading, simple_value=entry[key]) for key, heading in _SCALARS.items()]
        self._add(step=entry["epoch"], summary=Summary(value=values))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _add(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        if self._file is None:
            return
        try:
            RecordWriter(self._file).write(Event(wall_time=time.time(), **content).SerializeToString())
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Training itself is worth more than its curves."""
        self._on_message(f"no more event files: {self._folder}: {error.strerror}")
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
