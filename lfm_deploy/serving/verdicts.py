"""From the bytes of a picture, or from pixels, to the row of ``predict``, through one queue to one engine."""

import asyncio
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.errors import DeployError, ImageError
from lfm_deploy.pictures.decoding import read_rgb
from lfm_deploy.pictures.pipeline import make_group
from lfm_deploy.prediction.judges import Judge
from lfm_deploy.prediction.notes import Background
from lfm_deploy.prediction.prediction import decoder_of, judge_group, look_of
from lfm_deploy.prediction.rows import Prediction
from lfm_deploy.serving.batching import Batcher, QueueFullError
from lfm_deploy.serving.refusals import Reason, RefusalError, refuse_picture
from lfm_deploy.serving.settings import ServiceSettings

# At native size pictures wait as they are; together no more of them than as many of this size would be.
_PIXELS_A_PICTURE = 512 * 512
_LONGEST_WAIT_S = 60


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one picture.

    Attributes:
        row: row of ``predict``; where the picture could not be judged, it has the reason.
        refusal: refusal that goes with such a row; None where there is a verdict.
    """

    row: Prediction
    refusal: RefusalError | None = None


@dataclass(frozen=True, slots=True)
class _Pixels:
    name: str
    pixels: NDArray[np.uint8]
    background: Background | None = None


class _MeasuredError(ImageError):
    """Width and height are known, which was all that was asked for."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__()
        self.pixels = width * height


def count_pixels(content: bytes, most: int) -> int:
    """Number of pixels of a picture by its header; nothing is decoded.

    Args:
        content: bytes of the file.
        most: number of pixels at most.

    Raises:
        RefusalError: there are more, or the header alone shows that the picture cannot be judged.
    """

    def stop(width: int, height: int) -> None:
        raise _MeasuredError(width, height)

    try:
        read_rgb(content, stop)
    except _MeasuredError as found:
        if found.pixels > most:
            message = f"{found.pixels} pixels are more than the {most} that this service decodes"
            raise RefusalError(Reason.TOO_MANY_PIXELS, message) from None
        return found.pixels
    except DeployError as error:
        raise refuse_picture(error) from None
    raise AssertionError("read_rgb asks about the size of whatever it decodes")


class VerdictDesk:
    """Gives verdicts: checks, decodes in threads, collects batches and runs the engine in a thread of its own.

    Attributes:
        judge: engine with its settings.
        settings: limits of the service.
        batcher: queue in front of the engine.
    """

    def __init__(
        self,
        judge: Judge,
        settings: ServiceSettings,
        engine_thread: ThreadPoolExecutor,
        *,
        on_batch: Callable[[int, float], None] = lambda *_: None,
    ) -> None:
        """Prepare; ``batcher.start`` begins.

        Args:
            judge: engine with its settings, opened in the engine's thread.
            settings: limits of the service.
            engine_thread: executor with the one thread that may touch the engine.
            on_batch: function that is given the number of pictures and the seconds of each batch.
        """
        self.judge, self.settings = judge, settings
        self._decode, self._look = decoder_of(judge), look_of(judge)
        self._decoders = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode")
        self._held = _Held(settings.max_queue * _PIXELS_A_PICTURE)
        self.batcher: Batcher[_Pixels, Prediction] = Batcher(
            self._judge_batch,
            engine_thread,
            most=judge.batch,
            delay_s=settings.max_delay_ms / 1000,
            capacity=settings.max_queue,
            on_batch=on_batch,
        )

    async def close(self) -> None:
        """Answer what is there, and end."""
        await self.batcher.close()
        self._decoders.shutdown()

    async def judge_files(self, files: Sequence[tuple[str, bytes]]) -> list[Verdict]:
        """Verdicts on pictures, in order.

        Args:
            files: name and bytes of each picture.

        Raises:
            RefusalError: the queue has no room for them.
        """
        self._reserve(len(files))
        return list(await asyncio.gather(*(self._judge_file(name, content) for name, content in files)))

    async def judge_pixels(self, images: NDArray[np.uint8]) -> list[Prediction]:
        """Rows of pictures that were decoded elsewhere.

        Args:
            images: pictures, uint8 ``(N, H, W, 3)``, as the contract says.

        Raises:
            RefusalError: the queue has no room for them, or a logit is no number.
        """
        self._reserve(len(images))
        rows = await asyncio.gather(*(self.batcher.submit(_Pixels("", image)) for image in images))
        for row in rows:
            if row.error is not None:
                raise RefusalError(Reason.INTERNAL, row.error)
        return list(rows)

    def _reserve(self, count: int) -> None:
        if count > self.settings.max_queue:
            message = f"{count} pictures in one request are more than the queue holds, {self.settings.max_queue}"
            raise RefusalError(Reason.BODY_TOO_LARGE, f"{message}; send fewer at a time")
        try:
            self.batcher.reserve(count)
        except QueueFullError:
            raise self._refuse_full() from None

    def _refuse_full(self) -> RefusalError:
        wait = min(max(1, math.ceil(self.batcher.estimate_wait_s())), _LONGEST_WAIT_S)
        message = f"the queue is full ({self.settings.max_queue} pictures); ask again in {wait} s"
        return RefusalError(Reason.QUEUE_FULL, message, retry_after_s=wait)

    async def _judge_file(self, name: str, content: bytes) -> Verdict:
        loop = asyncio.get_running_loop()
        try:
            found, background = await loop.run_in_executor(self._decoders, self._read_with_background, content)
        except BaseException:
            self.batcher.release()
            raise
        if isinstance(found, RefusalError):
            self.batcher.release()
            (row,) = judge_group(self.judge, make_group([name], [found.message], [background]))
            return Verdict(row, found)
        try:
            row = await self.batcher.submit(_Pixels(name, found, background))
        finally:
            self._held.leave(_area(found))
        if row.error is not None:
            return Verdict(row, RefusalError(Reason.INTERNAL, row.error))
        return Verdict(row)

    def _read_with_background(self, content: bytes) -> tuple[NDArray[np.uint8] | RefusalError, Background]:
        """Pixels of a picture, or why there are none, and what else is known of it; in a thread."""
        background = self._look(content)
        try:
            return self._read(content), background
        except RefusalError as refusal:
            return refusal, background

    def _read(self, content: bytes) -> NDArray[np.uint8]:
        """Pixels of a picture that may be decoded; in a thread."""
        area = count_pixels(content, self.settings.max_pixels)
        if self.judge.size != "native":
            area = self.judge.size**2
        if not self._held.enter(area):
            raise self._refuse_full()
        try:
            return self._decode(content, None)
        except DeployError as error:
            self._held.leave(area)
            raise refuse_picture(error) from None
        except BaseException:
            self._held.leave(area)
            raise

    def _judge_batch(self, batch: Sequence[_Pixels]) -> list[Prediction]:
        """Rows of a batch; in the engine's thread. At native size pictures of one size run together."""
        order = sorted(range(len(batch)), key=lambda index: batch[index].pixels.shape)
        sorted_batch = [batch[index] for index in order]
        group = make_group(
            [one.name for one in sorted_batch],
            [one.pixels for one in sorted_batch],
            [one.background for one in sorted_batch],
        )
        rows = dict(zip(order, judge_group(self.judge, group), strict=True))
        return [rows[index] for index in range(len(batch))]


class _Held:
    """Counts pixels that are in memory; one picture is always let in."""

    def __init__(self, most: int) -> None:
        self._most, self._now = most, 0
        self._lock = threading.Lock()

    def enter(self, area: int) -> bool:
        with self._lock:
            if self._now and self._now + area > self._most:
                return False
            self._now += area
            return True

    def leave(self, area: int) -> None:
        with self._lock:
            self._now -= area


def _area(pixels: NDArray[np.uint8]) -> int:
    return math.prod(pixels.shape[:2])
