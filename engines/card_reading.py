"""From the bytes of JPEG files to pixels of one size on a card, without their coming back to the host.

    threads: read, look at the structure ─▶ card: decode, resize ─▶ a batch on the card ─▶ engine
             decode what is no baseline JPEG ─────────────── copy ──▲

Groups are those of ``read_groups``, in its order; what the card does not decode whole is decoded by the host, which has
the reasons. A group is on its way to the card while the caller works on the one before.
"""

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import DecoderError, ImageError, UnavailableError
from lfm_deploy.pictures.baseline_jpegs import find_whole_baseline
from lfm_deploy.pictures.decoding import Source, decode_picture
from lfm_deploy.pictures.jpegs import JpegDecoder, load_jpeg
from lfm_deploy.pictures.nvimagecodec_decoder import NvImageCodecDecoder
from lfm_deploy.pictures.pipeline import Decoded, Encoded, Look, PictureGroup, read_groups
from lfm_deploy.pictures.pixel_limit import most_pixels
from lfm_deploy.pictures.self_test import check_format, draw_pattern, load_samples

if TYPE_CHECKING:
    import torch

    from engines.kernels.resizing import DevicePixels

# Of what is decoded at once, so that memory does not grow with the pictures; larger ones are the host's.
_MOST_PIXELS = 64 << 20
_LARGEST_PICTURE = 32 << 20


@dataclass(kw_only=True)
class CardReader:
    """Reads pictures for an engine that takes arrays on its card; one thread at a time may use it.

    Attributes:
        decoder: decoder on the card; its CPU backend stands in for it in tests.
        host: decoder of the JPEG files that the card leaves; None leaves them to Pillow.
        size: side in pixels that pictures are resized to.
        config: architecture of the network.
        device: PyTorch's name of the card, ``"cuda:N"``; ``"cpu"`` in tests.
    """

    decoder: NvImageCodecDecoder
    host: JpegDecoder | None
    size: int
    config: ModelConfig
    device: str
    _stream: Any = field(default=None, init=False)
    # One for all that is read: a decoder is its thread's own, and the card's takes long to make.
    _thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="card-reader"), init=False
    )

    def read(
        self,
        sources: Iterable[Source],
        *,
        batch: int,
        workers: int | None = None,
        start: int = 0,
        look: Look | None = None,
    ) -> Iterator[PictureGroup]:
        """Groups as ``read_groups`` gives them, with runs on the card.

        Args:
            sources: pictures to read.
            batch: number of pictures in a group at most.
            workers: threads that read, and decode what the card does not; None is one for each core.
            start: index in the whole list of the first picture.
            look: function that finds out more about a picture; see ``read_groups``.

        Raises:
            DecoderError: a format that is asked for is decoded to other pixels on this machine.
        """
        groups = read_groups(
            sources,
            self.size,
            batch=batch,
            config=self.config,
            workers=workers,
            start=start,
            decode=self.prepare,
            look=look,
        )
        coming: Future[PictureGroup] | None = None
        try:
            for group in groups:
                before, coming = coming, self._thread.submit(self.finish, group)
                if before is not None:
                    yield before.result()
            if coming is not None:
                yield coming.result()
        finally:
            if coming is not None:
                wait([coming])

    def finish(self, group: PictureGroup) -> PictureGroup:
        """Decode and resize what is still encoded; the group's runs are on the card then.

        Args:
            group: group whose empty places are to be filled; it is not changed.

        Raises:
            UnavailableError: the card failed, or has too little memory.
        """
        if not group.runs:
            return group
        import torch

        try:
            return self._finish(group)
        except torch.OutOfMemoryError:
            raise UnavailableError(
                f"decoding on {self.device}: not run: too little GPU memory; end what else runs there, or run smaller "
                "batches"
            ) from None

    def _finish(self, group: PictureGroup) -> PictureGroup:
        import torch

        ((offsets, pixels),) = group.runs
        rows = {offset: row for row, offset in enumerate(offsets)}
        with torch.inference_mode(), self._on_stream():
            out = torch.empty((len(offsets), self.size, self.size, 3), dtype=torch.uint8, device=self.device)
            left = dict(group.encoded)
            for part in split_pixels(group.encoded):
                for offset in self._decode({offset: group.encoded[offset] for offset in part}, rows, out):
                    del left[offset]
            reasons = group.reasons | self._decode_on_host(left, rows, pixels)
            done = group.encoded.keys() - left.keys()
            self._copy([row for offset, row in rows.items() if offset not in done], pixels, out)
            kept = [offset for offset in offsets if offset not in reasons]
            if len(kept) < len(offsets):
                out = out[[rows[offset] for offset in kept]]
            self._wait()  # the engine reads the batch on a stream of its own
        held: Any = out.numpy() if self.device == "cpu" else out
        return replace(group, reasons=reasons, runs=[(kept, held)] if kept else [], encoded={})

    def check(self) -> tuple[int, float]:
        """How far pictures of the self-test that are decoded and resized here are from the contract's pixels.

        Returns:
            Largest difference in levels, and the share of values that differ, a fraction.

        Raises:
            DecoderError: the card decodes none of them.
        """
        contents = [sample.read() for sample in load_samples() if sample.format == "JPEG"]
        contents += [sample_jpeg(*size) for size in ((200, 120), (96, 320), (self.size, self.size))]
        pixels = np.zeros((len(contents), self.size, self.size, 3), np.uint8)
        encoded = {index: self.prepare(content, pixels[index]) for index, content in enumerate(contents)}
        group = PictureGroup(
            0,
            [str(index) for index in encoded],
            runs=[(list(encoded), pixels)],
            encoded={index: one for index, one in encoded.items() if isinstance(one, Encoded)},
        )
        if not any(self.decoder.decode_batch(contents)):
            raise DecoderError(
                f"decoder nvimagecodec on {self.device}: this card has no JPEG hardware, and its CUDA backend gives "
                "other pixels; take --decoder simplejpeg"
            )
        ((_, held),) = self.finish(group).runs
        found = held if isinstance(held, np.ndarray) else held.cpu().numpy()
        expected = np.stack([decode_picture(content, self.size, self.config) for content in contents])
        away = np.abs(found.astype(np.int16) - expected)
        return int(away.max()), float((away > 0).mean())

    def prepare(self, content: Path | bytes, slot: NDArray[np.uint8] | None) -> Decoded:
        """In a reading thread: the bytes of what the card is to decode, else pixels.

        Args:
            content: path of the file, or its bytes.
            slot: uint8 ``(size, size, 3)`` to write pixels into; None for a new array.

        Raises:
            DecoderError: the format is decoded to other pixels on this machine.
            ImageError: the picture cannot be read; the message is the bare reason.
        """
        read = load_jpeg(content)
        if read is not None:
            found = find_whole_baseline(read)
            if found is not None and found[0] * found[1] <= min(_LARGEST_PICTURE, most_pixels()):
                check_format("JPEG")
                return Encoded(read, (found[1], found[0], 3))
        return decode_picture(content, self.size, self.config, slot, self.host)

    def _decode(self, part: dict[int, Encoded], rows: dict[int, int], out: "torch.Tensor") -> list[int]:
        """Decode pictures and resize them into their rows; the offsets of those that the card could decode."""
        from engines.kernels.resizing import run_resize

        stream = 0 if self._stream is None else self._stream.cuda_stream
        # Held until the kernels have read them.
        found = self.decoder.decode_batch([one.content for one in part.values()], stream)
        done = {
            offset: picture
            for (offset, one), picture in zip(part.items(), found, strict=True)
            if picture is not None and tuple(picture.shape) == one.shape
        }
        if done:
            places = [self._locate(picture) for picture in done.values()]
            run_resize(places, [rows[offset] for offset in done], out)
            self._wait()
        return list(done)

    def _decode_on_host(
        self, left: dict[int, Encoded], rows: dict[int, int], pixels: NDArray[np.uint8]
    ) -> dict[int, str]:
        """Fill rows of the array in host memory; the reasons of those that cannot be judged."""
        reasons: dict[int, str] = {}
        for offset, one in left.items():
            try:
                decode_picture(one.content, self.size, self.config, pixels[rows[offset]], self.host)
            except ImageError as error:
                reasons[offset] = str(error)
        return reasons

    def _copy(self, rows: list[int], pixels: NDArray[np.uint8], out: "torch.Tensor") -> None:
        """Copy rows from host memory."""
        if rows:
            import torch

            out[rows] = torch.from_numpy(pixels[rows]).to(out.device)

    def _locate(self, picture: Any) -> "DevicePixels":
        """Where the pixels of one of the library's pictures lie, on the card or in host memory."""
        from engines.kernels.resizing import DevicePixels

        on_host = self.device == "cpu"
        interface = picture.__array_interface__ if on_host else picture.__cuda_array_interface__
        height, width, channels = interface["shape"]
        strides = interface.get("strides") or (width * channels, channels, 1)
        return DevicePixels(interface["data"][0], height, width, strides[0])

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        import torch

        if self.device == "cpu":
            yield
            return
        if self._stream is None:
            self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            yield

    def _wait(self) -> None:
        if self._stream is not None:
            self._stream.synchronize()


def split_pixels(encoded: dict[int, Encoded], most: int = _MOST_PIXELS) -> Iterator[list[int]]:
    """Offsets of pictures in their order, in parts of at most so many pixels, or of one picture.

    Args:
        encoded: pictures by their offset.
        most: number of pixels in a part at most.
    """
    part, pixels = list[int](), 0
    for offset, one in encoded.items():
        added = one.shape[0] * one.shape[1]
        if part and pixels + added > most:
            yield part
            part, pixels = [], 0
        part.append(offset)
        pixels += added
    if part:
        yield part


def sample_jpeg(width: int, height: int) -> bytes:
    """A baseline JPEG that is computed."""
    stream = io.BytesIO()
    Image.fromarray(draw_pattern(width, height)).save(stream, format="JPEG", quality=90)
    return stream.getvalue()
