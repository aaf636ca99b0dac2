"""The folder that a deployment lives in: names of its artifacts, and one writer at a time."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lfm_deploy.artifacts import Precision
from lfm_deploy.errors import ArtifactError
from lfm_deploy.quantisation import Recipe
from lfm_deploy.storage.atomic import finish_commits, remove_leftovers, sha256_of_file
from lfm_deploy.storage.folder_lock import lock_folder


@dataclass(frozen=True, slots=True)
class Workdir:
    """A deployment folder, ``deploy/`` by default.

    It holds ``lfm.pth`` (a copy of the checkpoint, byte for byte), ``golden.zip``, ``lfm.onnx``, ``lfm.fp16.onnx``,
    ``lfm.bf16.onnx``, ``lfm.int8.onnx`` (for TensorRT) and ``lfm.int8.cpu.onnx``, engines such as
    ``lfm.fp16.sm86.engine`` with sidecar and build log, ``ranges.json``, ``precision.json``, ``threshold.json``,
    ``envelope.json``, ``MODEL_CARD.md``, ``report.json`` with ``report.html``, ``report.md`` and ``report.xml``,
    ``scores.csv``, and ``scores.sqlite``, which remembers logits from one verification to the next.

    Attributes:
        path: path of the folder.
    """

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The checkpoint that everything here was made from."""
        return self.path / "lfm.pth"

    @property
    def golden(self) -> Path:
        """Pictures with the checkpoint's logits, which an engine must give again before it serves."""
        return self.path / "golden.zip"

    @property
    def report(self) -> Path:
        """The report of the last verification."""
        return self.path / "report.json"

    @property
    def page(self) -> Path:
        """The report to look at."""
        return self.path / "report.html"

    @property
    def thumbnails(self) -> Path:
        """Folder of small pictures that the page shows, kept for the next one."""
        return self.path / "thumbnails"

    @property
    def drawings(self) -> Path:
        """Folder of plots that the page shows, kept for the next one."""
        return self.path / "drawings"

    @property
    def ranges(self) -> Path:
        """Activation ranges, from ``lfm-deploy calibrate``."""
        return self.path / "ranges.json"

    @property
    def precisions(self) -> Path:
        """What the search for INT8 layers found, for each recipe."""
        return self.path / "precision.json"

    @property
    def threshold(self) -> Path:
        """The threshold that was chosen for it, with all its figures."""
        return self.path / "threshold.json"

    @property
    def card(self) -> Path:
        """The model card, which travels with the files."""
        return self.path / "MODEL_CARD.md"

    @property
    def envelope(self) -> Path:
        """What the last verification with ``--envelope`` found the detector good for."""
        return self.path / "envelope.json"

    @property
    def scores(self) -> Path:
        """Every logit of the last verification."""
        return self.path / "scores.csv"

    @property
    def score_cache(self) -> Path:
        """Every logit of all verifications, so that none is computed twice."""
        return self.path / "scores.sqlite"

    @property
    def summary(self) -> Path:
        """The report for a pull request, in Markdown."""
        return self.path / "report.md"

    @property
    def junit(self) -> Path:
        """The report for continuous integration, in JUnit's XML."""
        return self.path / "report.xml"

    @property
    def reports(self) -> tuple[Path, ...]:
        """All that a verification writes at its end."""
        return (self.report, self.page, self.summary, self.junit, self.scores)

    @property
    def timing_cache(self) -> Path:
        """TensorRT's timing cache."""
        return self.path / "tensorrt.timing-cache"

    def graph(self, precision: Precision, recipe: Recipe = Recipe.TENSORRT) -> Path:
        """The ONNX file of a precision; INT8 has one for each recipe.

        Args:
            precision: arithmetic of the graph.
            recipe: kind of machine that an INT8 graph is for; other precisions have one graph for all.
        """
        if precision is Precision.FP32:
            return self.path / "lfm.onnx"
        of_cpu = precision is Precision.INT8 and recipe is Recipe.CPU
        return self.path / f"lfm.{precision}{'.cpu' if of_cpu else ''}.onnx"

    def engine(self, precision: Precision, gpu: str) -> Path:
        """The engine of a precision for a GPU such as ``"sm86"``.

        Args:
            precision: arithmetic of the engine.
            gpu: compute capability, such as ``"sm86"``.
        """
        return self.path / f"lfm.{precision}.{gpu}.engine"

    def graphs(self) -> list[Path]:
        """The ONNX files that are here, FP32 first."""
        paths = [self.graph(precision) for precision in Precision] + [self.graph(Precision.INT8, Recipe.CPU)]
        return [path for path in paths if path.is_file()]

    def engines(self) -> list[Path]:
        """The TensorRT engines that are here, by precision and GPU."""
        if self.path.is_dir():
            finish_commits(self.path)
        return sorted(self.path.glob("*.engine"), key=_in_order)

    def require_checkpoint(self) -> Path:
        """The checkpoint's path.

        Raises:
            ArtifactError: nothing has been exported into this folder.
        """
        if not self.checkpoint.is_file():
            raise ArtifactError(
                f"{self.path}: nothing has been exported here; run 'lfm-deploy export CHECKPOINT.pth "
                f"--workdir {self.path}' first"
            )
        return self.checkpoint

    @contextmanager
    def lock(self, on_wait: Callable[[str], None]) -> Iterator[None]:
        """Be the only writer; wait for another one, after saying so through ``on_wait``.

        The lock is the kernel's, so it ends with its process, however that ends. What a dead writer left
        behind is finished or removed first.

        Args:
            on_wait: function that is given a line of text when another process holds the workdir.

        Raises:
            WriteError: the folder cannot be made, or not be written.
        """

        def wait(owner: str) -> None:
            on_wait(f"{self.path}: another lfm-deploy (process {owner}) is writing here; waiting for it")

        with lock_folder(self.path, wait):
            for folder in (self.path, self.drawings, self.thumbnails):
                remove_leftovers(folder)
            yield


def remove_reports(workdir: Workdir, on_wait: Callable[[str], None]) -> None:
    """Remove what an earlier verification wrote, so that one that is cut short leaves none that looks finished.

    Args:
        workdir: workdir of the reports.
        on_wait: function that is given a line of text when another process holds the workdir.
    """
    with workdir.lock(on_wait):
        for path in workdir.reports:
            path.unlink(missing_ok=True)


def check_origin(path: Path, checkpoint_sha256: str, workdir: Workdir, remedy: str) -> None:
    """Refuse an artifact that was made from another checkpoint than the one beside it; in production there may be none.

    Raises:
        ArtifactError: the artifact is stale; the message has the remedy.
    """
    if workdir.checkpoint.is_file() and checkpoint_sha256 != sha256_of_file(workdir.checkpoint):
        raise ArtifactError(
            f"{path}: stale: it was made from another checkpoint than {workdir.checkpoint}; run '{remedy}'"
        )


def _in_order(engine: Path) -> list[tuple[int, str]]:
    """Sort key that puts sm86 before sm120."""
    return [(int(number or 0), text) for text, number in re.findall(r"(\D+)(\d*)", engine.name)]
