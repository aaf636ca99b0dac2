"""How a training went: a picture of its curves, and event files for TensorBoard."""

from collections.abc import Mapping, Sequence
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
    """Event files for TensorBoard, where it is installed; without it nothing is written."""

    def __init__(self, folder: Path, first_epoch: int) -> None:
        """Open the folder; events of this epoch (from 1) and later ones, left by a run that was killed, are hidden."""
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(folder), purge_step=first_epoch)

    @property
    def is_open(self) -> bool:
        """Whether TensorBoard is installed."""
        return self._writer is not None

    def write(self, entry: Mapping[str, Any]) -> None:
        """The figures of one epoch."""
        if self._writer is None:
            return
        for key, heading in _SCALARS.items():
            self._writer.add_scalar(heading, entry[key], entry["epoch"])
        self._writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
