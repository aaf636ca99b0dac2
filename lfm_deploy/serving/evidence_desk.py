"""Drawings of where a verdict came from, for the page: by the checkpoint in PyTorch, one after the other."""

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from lfm_deploy.engine_info import read_descent
from lfm_deploy.errors import DeployError
from lfm_deploy.prediction.judges import Judge
from lfm_deploy.prediction.prediction import decoder_of
from lfm_deploy.serving.refusals import Reason, RefusalError, refuse_picture
from lfm_deploy.serving.verdicts import count_pixels
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.workdir import Workdir

if TYPE_CHECKING:
    from lfm_deploy.prediction.overlays import CheckpointOverlays  # loads PyTorch

_MOST_WAITING = 8
_WAIT_S = 2


class EvidenceDesk:
    """Draws evidence in a thread of its own; PyTorch is loaded for the first drawing.

    Attributes:
        available: whether the checkpoint that the engine was made from lies beside it.
    """

    def __init__(self, judge: Judge, max_pixels: int, *, wanted: bool = True) -> None:
        """Look for the checkpoint.

        Args:
            judge: engine with its settings.
            max_pixels: number of pixels of a picture at most.
            wanted: whether evidence may be drawn at all.
        """
        self._path = Workdir(judge.path.parent).checkpoint
        self._size, self._decode, self._max_pixels = judge.size, decoder_of(judge), max_pixels
        self._spare_threads = judge.engine.runtime != "pytorch"
        origin = read_descent(judge.path)[0] or sha256_of_file(judge.path)
        self.available = wanted and self._path.is_file() and sha256_of_file(self._path) == origin
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="evidence")
        self._waiting = 0
        self._overlays: CheckpointOverlays | None = None

    def close(self) -> None:
        """End, after the drawing that is being made."""
        self._thread.shutdown()

    async def draw(self, content: bytes) -> bytes:
        """A picture with its evidence on it, as PNG: red speaks for fake, blue for real.

        Args:
            content: bytes of the picture's file.

        Raises:
            RefusalError: the picture cannot be judged, there is no checkpoint to ask, or too many wait already.
        """
        if not self.available:
            message = "no evidence here: it takes the checkpoint, lfm.pth, beside the engine, and no --no-evidence"
            raise RefusalError(Reason.NOT_FOUND, message)
        if self._waiting >= _MOST_WAITING:
            message = f"{self._waiting} drawings wait already; ask again in {_WAIT_S} s"
            raise RefusalError(Reason.QUEUE_FULL, message, retry_after_s=_WAIT_S)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._draw, content)
        finally:
            self._waiting -= 1

    def _draw(self, content: bytes) -> bytes:
        count_pixels(content, self._max_pixels)
        try:
            pixels = self._decode(content, None)
        except DeployError as error:
            raise refuse_picture(error) from None
        try:
            (overlay,) = self._open().draw(pixels[None])
        except DeployError as error:
            raise RefusalError(Reason.CANNOT_BE_JUDGED, str(error)) from None
        buffer = io.BytesIO()
        overlay.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    def _open(self) -> "CheckpointOverlays":
        if self._overlays is None:
            import torch

            from lfm_deploy.prediction.overlays import CheckpointOverlays

            if self._spare_threads:
                torch.set_num_threads(1)  # the cores are the engine's
            self._overlays = CheckpointOverlays(self._path)
        return self._overlays
