"""JPEG by nvImageCodec: on the JPEG hardware of an NVIDIA card, whose pixels stay there, or by its CPU backend.

Its defaults are not the contract's: it would turn pictures by EXIF, and take the CUDA (hybrid) backend where there is
no JPEG hardware, whose pixels move the published checkpoint's logits by 0.96 on average. Each decoder here allows one
backend and no other; what that cannot decode is left to the host.
"""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.environment import installed_version
from lfm_deploy.errors import UnavailableError, first_line
from lfm_deploy.pictures.baseline_jpegs import find_whole_baseline

_OPTIONS = ":fancy_upsampling=1"  # smooth chroma, whatever the default of a version is
_VERBOSITY = "PYNVIMGCODEC_VERBOSITY"
_DISTRIBUTIONS = ("nvidia-nvimgcodec-cu13", "nvidia-nvimgcodec-cu12", "nvidia-nvjpeg", "nvidia-nvjpeg-cu12")
_LOCK = threading.Lock()


class NvImageCodecDecoder:
    """See ``JpegDecoder``.

    Attributes:
        device: CUDA's index of the card whose JPEG hardware decodes; None is the CPU backend.
    """

    name = "nvimagecodec"
    before_resize = True

    def __init__(self, device: int | None = None) -> None:
        """Load the library; decoders are made by the threads that use them.

        Args:
            device: CUDA's index of the card whose JPEG hardware is to decode; None takes the CPU backend.

        Raises:
            UnavailableError: nvImageCodec is not installed, or cannot be used here.
        """
        self.device = device
        self._library = _load_library()
        self._how = self._library.DecodeParams(apply_exif_orientation=False)
        self._local = threading.local()
        self._own()

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of nvImageCodec and nvJPEG, and the backend."""
        found = {name: number for name in _DISTRIBUTIONS if (number := installed_version(name)) is not None}
        return {**found, "backend": "cpu" if self.device is None else "jpeg hardware"}

    def decode(self, content: bytes, slot: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        """Pixels of one file in host memory; None where the backend cannot decode it.

        Args:
            content: bytes of a JPEG file with one or three channels.
            slot: uint8 ``(H, W, 3)``, of the picture's size, to write the pixels into; None for a new array.

        Returns:
            uint8 ``(H, W, 3)``; the slot where there is one.
        """
        (found,) = self.decode_batch([content])
        if found is None:
            return None
        pixels: NDArray[np.uint8] = np.asarray(found.cpu())
        if slot is None:
            return pixels
        slot[...] = pixels
        return slot

    def decode_batch(self, contents: Sequence[bytes], stream: int = 0) -> list[Any | None]:
        """Pictures of the library, where they are; on a card they have ``__cuda_array_interface__``.

        Args:
            contents: bytes of JPEG files with one or three channels.
            stream: handle of the CUDA stream on which the pixels are used afterwards.

        Returns:
            One picture a file, uint8 ``(H, W, 3)``; None for one that is progressive, damaged, or of a kind that the
            backend does not decode.

        Raises:
            UnavailableError: the library or the card failed.
        """
        found: list[Any | None] = [None] * len(contents)
        streams: dict[int, Any] = {}
        for index, content in enumerate(contents):
            # Of damage, hardware promises to notice nothing, and the CPU backend hands it to a second library.
            if find_whole_baseline(content) is not None:
                try:
                    streams[index] = self._library.CodeStream(content)
                except RuntimeError:
                    continue
        if streams:
            try:
                decoded = self._own().decode(list(streams.values()), params=self._how, cuda_stream=stream)
            except RuntimeError as error:
                raise UnavailableError(
                    f"decoder nvimagecodec: failed ({first_line(error)}); take --decoder pillow"
                ) from None
            for index, picture in zip(streams, decoded, strict=True):
                found[index] = picture
        return found

    def _own(self) -> Any:
        """The decoder of this thread: nothing promises that threads may share one."""
        if not hasattr(self._local, "decoder"):
            kinds = self._library.BackendKind
            on_card = self.device is not None
            backend = self._library.Backend(kinds.HW_GPU_ONLY if on_card else kinds.CPU_ONLY)
            try:
                self._local.decoder = self._library.Decoder(
                    device_id=self.device if on_card else self._library.NVIMGCODEC_DEVICE_CPU_ONLY,
                    max_num_cpu_threads=0 if on_card else 1,
                    backends=[backend],
                    options=_OPTIONS,
                )
            except RuntimeError as error:
                where = f"cuda:{self.device}" if on_card else "the CPU"
                raise UnavailableError(
                    f"decoder nvimagecodec on {where}: not run: {first_line(error)}; take --decoder pillow"
                ) from None
        return self._local.decoder


@cache
def _load_library() -> Any:
    # Its errors are rows of ours. Whoever sets the variable wants to see them.
    os.environ.setdefault(_VERBOSITY, "0")
    try:
        with _LOCK, _silent_stderr():
            from nvidia import nvimgcodec
    except ImportError:
        raise UnavailableError(
            "decoder nvimagecodec: not installed; run 'pip install lfm-deploy[gpu-decode]', or take --decoder pillow"
        ) from None
    return nvimgcodec


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """The library names each of its own libraries that is missing on the process's stderr, past its verbosity."""
    try:
        kept = os.dup(2)
    except OSError:  # closed: nothing is to be kept out of it
        yield
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
