"""Many pictures, decoded in threads of their own while the caller works on the group before; bounded and in order.

    list ─▶ feeder thread ─▶ decoding threads ─▶ groups, in the order of the list ─▶ caller

The feeder walks folders and shards and never runs further ahead than the window allows. At a fixed size a picture is
decoded straight into its place in the array that the engine will read.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import SizePolicy
from lfm_deploy.errors import ImageError
from lfm_deploy.machine import count_cores
from lfm_deploy.pictures.decoding import Source, decode_picture
from lfm_deploy.pictures.jpegs import JpegDecoder

# At native size a group ends where its pictures have more pixels than this many for each that it may hold.
_PIXELS_A_PICTURE = 512 * 512
# Groups that are being decoded while the caller works on another.
_GROUPS_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Encoded:
    """A picture that is decoded later, on a card.

    Attributes:
        content: bytes of the file.
        shape: shape of its pixels, ``(H, W, 3)``.
    """

    content: bytes
    shape: tuple[int, int, int]


Decoded = NDArray[np.uint8] | Encoded
Decoder = Callable[[Path | bytes, NDArray[np.uint8] | None], Decoded]
"""From a file or its bytes to uint8 ``(H, W, 3)``, written into the second argument where there is one."""
Look = Callable[[Path | bytes], Any]
"""From a file or its bytes to whatever is to be known of it besides its pixels."""


@dataclass(slots=True)
class PictureGroup:
    """Consecutive pictures of a list, at most ``batch`` of them; where it ends depends on the list alone.

    Attributes:
        start: index in the list of the first one.
        names: names of all pictures of the group.
        reasons: reason why a picture cannot be judged, by its offset in ``names``.
        runs: pictures that can be judged, in order, as offsets and uint8 ``(N, H, W, 3)``; at a fixed size there is one
            run, at native size one for each stretch of one size.
        encoded: pictures of the run whose place in it is still empty, by their offset in ``names``.
        looks: findings on each picture that could be loaded, by its offset in ``names``.
    """

    start: int
    names: list[str] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    runs: list[tuple[list[int], NDArray[np.uint8]]] = field(default_factory=list)
    encoded: dict[int, Encoded] = field(default_factory=dict)
    looks: dict[int, Any] = field(default_factory=dict)


def read_groups(
    sources: Iterable[Source],
    size: SizePolicy,
    *,
    batch: int,
    config: ModelConfig | None = None,
    workers: int | None = None,
    start: int = 0,
    decode: Decoder | None = None,
    jpeg: JpegDecoder | None = None,
    look: Look | None = None,
) -> Iterator[PictureGroup]:
    """Decode pictures in order. One that cannot be judged never stops or reorders the rest.

    At most three groups are in memory, however long the list is; it is walked no further than that.

    Args:
        sources: pictures to read; the iterator runs in a thread of its own.
        size: side in pixels to resize to, or ``"native"``.
        batch: number of pictures in a group at most.
        config: architecture of the network, for the smallest native size; None is the published one.
        workers: decoding threads; None is one for each core, which is also right beside an engine that uses all
            cores, as long as its idle threads sleep (``load_engine(..., spin=False)``).
        start: index in the whole list of the first picture.
        decode: function that decodes pictures for another detector than LFM, at this size; None is ``decode_picture``.
        jpeg: decoder of JPEG files for ``decode_picture``; None leaves them to Pillow.
        look: function that finds out more about a picture, in the thread that decodes it; None finds out nothing.
    """
    decode = decode or lfm_decoder(size, config or ModelConfig(), jpeg)
    with _Feed(sources, size, decode, batch, workers or count_cores(), look) as feed:
        yield from _grouped(feed, size, batch, start)


def lfm_decoder(
    size: SizePolicy, config: ModelConfig, jpeg: JpegDecoder | None
) -> Callable[[Path | bytes, NDArray[np.uint8] | None], NDArray[np.uint8]]:
    """What decodes pictures for LFM: ``decode_picture`` at a size, for an architecture."""
    return lambda content, slot: decode_picture(content, size, config, slot, jpeg)


@dataclass(slots=True)
class _Picture:
    """A picture on its way; ``block`` is the array that it is decoded into, row by row, at a fixed size."""

    name: str
    block: NDArray[np.uint8] | None
    future: Future[Decoded] = field(init=False)
    seen: Any = None


class _Feed:
    """Walks the list in a thread, hands pictures to the decoding threads, and gives them back in order."""

    def __init__(
        self,
        sources: Iterable[Source],
        size: SizePolicy,
        decode: Decoder,
        batch: int,
        workers: int,
        look: Look | None,
    ) -> None:
        self._look = look
        self._sources, self._size, self._decoder, self._batch = sources, size, decode, batch
        self._most = _GROUPS_AHEAD * batch
        self._most_pixels = self._most * (_PIXELS_A_PICTURE if size == "native" else size * size)
        # Sizes are known only after decoding, so that large pictures must not pile up before it.
        self._most_undecoded = workers + 2 if size == "native" else self._most
        self._given = self._undecoded = self._pixels = 0
        self._changed = threading.Condition()
        self._stopped = False
        self._ready: queue.SimpleQueue[_Picture | BaseException | None] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="read-image")
        # A daemon, because it may be waiting for a line of standard input that never comes.
        self._feeder = threading.Thread(target=self._run, name="list-images", daemon=True)

    def __enter__(self) -> Self:
        self._feeder.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._feeder.join(timeout=0.2)

    def __iter__(self) -> Iterator[_Picture]:
        while (picture := self._ready.get()) is not None:
            if isinstance(picture, BaseException):
                raise picture
            yield picture

    def take(self, picture: _Picture) -> Decoded | str:
        """Pixels of the next picture, or the reason why there are none."""
        try:
            result: Decoded | str = picture.future.result()
        except ImageError as error:
            result = str(error)
        with self._changed:
            self._given -= 1
            self._pixels -= 0 if isinstance(result, str) else _count_pixels(result)
            self._changed.notify_all()
        return result

    def _run(self) -> None:
        block: NDArray[np.uint8] | None = None
        try:
            for index, source in enumerate(self._sources):
                if not self._enter():
                    return
                row = index % self._batch
                if self._size != "native" and row == 0:
                    block = np.empty((self._batch, self._size, self._size, 3), np.uint8)
                slot = None if block is None else block[row]
                picture = _Picture(source.name, block)
                picture.future = self._pool.submit(self._decode, source, slot, picture)
                self._ready.put(picture)
            self._ready.put(None)
        except BaseException as error:
            if not self._stopped:  # a closed pool refuses work; nobody waits for it any more
                self._ready.put(error)

    def _enter(self) -> bool:
        """Wait until one more picture may be on its way; False where the reader has gone."""

        def is_free() -> bool:
            if self._given == 0:
                return True
            return (
                self._given < self._most and self._undecoded < self._most_undecoded and self._pixels < self._most_pixels
            )

        with self._changed:
            self._changed.wait_for(lambda: self._stopped or is_free())
            self._given += 1
            self._undecoded += 1
            return not self._stopped

    def _decode(self, source: Source, slot: NDArray[np.uint8] | None, picture: _Picture) -> Decoded:
        pixels = 0
        try:
            content = source.load()
            if self._look is not None:
                picture.seen = self._look(content)
            result = self._decoder(content, slot)
            pixels = _count_pixels(result)
            return result
        finally:
            with self._changed:
                self._undecoded -= 1
                self._pixels += pixels
                self._changed.notify_all()


def _count_pixels(result: Decoded) -> int:
    """How many pixels take the memory of a result; a file that is still encoded takes far less than its own."""
    if isinstance(result, Encoded):
        return len(result.content) // 3
    return int(result.shape[0] * result.shape[1])


def make_group(
    names: Sequence[str], results: Sequence[NDArray[np.uint8] | str], looks: Sequence[object | None] = ()
) -> PictureGroup:
    """A group of pictures that were decoded elsewhere.

    Args:
        names: names of the pictures.
        results: pixels of each, uint8 ``(H, W, 3)``, or the reason why there are none.
        looks: background of each picture, as ``look`` of ``read_groups`` finds it; empty where nothing is known.
    """
    reasons = {offset: result for offset, result in enumerate(results) if isinstance(result, str)}
    held: list[tuple[int, Decoded]] = [
        (offset, result) for offset, result in enumerate(results) if not isinstance(result, str)
    ]
    group = PictureGroup(0, list(names), reasons)
    group.looks = {offset: seen for offset, seen in enumerate(looks) if seen is not None}
    return _closed(group, held, None)


def _grouped(feed: _Feed, size: SizePolicy, batch: int, start: int) -> Iterator[PictureGroup]:
    group, held, pixels = PictureGroup(start), list[tuple[int, Decoded]](), 0
    block: NDArray[np.uint8] | None = None
    for picture in feed:
        result = feed.take(picture)
        added = 0 if isinstance(result, str) else _count_pixels(result)
        if size == "native" and held and pixels + added > batch * _PIXELS_A_PICTURE:
            yield _closed(group, held, block)
            group, held, pixels = PictureGroup(group.start + len(group.names)), [], 0
        offset, block = len(group.names), picture.block
        group.names.append(picture.name)
        if picture.seen is not None:
            group.looks[offset] = picture.seen
        if isinstance(result, str):
            group.reasons[offset] = result
        else:
            held.append((offset, result))
            pixels += added
        if len(group.names) == batch:
            yield _closed(group, held, block)
            group, held, pixels = PictureGroup(group.start + len(group.names)), [], 0
    if group.names:
        yield _closed(group, held, block)


def _closed(group: PictureGroup, held: list[tuple[int, Decoded]], block: NDArray[np.uint8] | None) -> PictureGroup:
    """The group with its runs; nothing is copied where all pictures of a block could be read."""
    offsets = [offset for offset, _ in held]
    if block is not None:
        rows = block[: len(group.names)]
        group.encoded = {offset: one for offset, one in held if isinstance(one, Encoded)}
        if offsets:
            group.runs = [(offsets, rows[offsets] if group.reasons else rows)]
        return group
    pixels = [one for _, one in held if not isinstance(one, Encoded)]
    first = 0
    for last in range(1, len(pixels) + 1):
        if last == len(pixels) or pixels[last].shape != pixels[first].shape:
            group.runs.append((offsets[first:last], np.stack(pixels[first:last])))
            first = last
    return group
