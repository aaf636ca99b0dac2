"""JPEG by simplejpeg: libjpeg-turbo without Pillow's line by line copying, straight into the array that is wanted."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.environment import installed_version
from lfm_deploy.errors import UnavailableError


class SimpleJpegDecoder:
    """See ``JpegDecoder``. Its defaults are those of the contract: accurate integer IDCT, smooth chroma."""

    name = "simplejpeg"

    def __init__(self, *, before_resize: bool = True) -> None:
        """Load the library.

        Args:
            before_resize: whether it is to decode pictures that Pillow resizes afterwards, which gains nothing.

        Raises:
            UnavailableError: simplejpeg is not installed.
        """
        try:
            import simplejpeg
        except ImportError:
            raise UnavailableError(
                "decoder simplejpeg: not installed; run 'pip install lfm-deploy[fast-jpeg]', or take --decoder pillow"
            ) from None
        self.before_resize = before_resize
        self._decode = simplejpeg.decode_jpeg

    @property
    def versions(self) -> Mapping[str, str]:
        """Version of simplejpeg, whose wheels hold the libjpeg-turbo that they use."""
        return {"simplejpeg": installed_version("simplejpeg") or "unknown"}

    def decode(self, content: bytes, slot: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        """Pixels of one file; None where libjpeg-turbo has anything to say of it.

        Args:
            content: bytes of a JPEG file with one or three channels.
            slot: uint8 ``(H, W, 3)``, of the picture's size, to write the pixels into; None for a new array.

        Returns:
            uint8 ``(H, W, 3)``; the slot where there is one.
        """
        try:
            found: NDArray[np.uint8] = self._decode(
                content, colorspace="RGB", fastdct=False, fastupsample=False, strict=True, buffer=slot
            )
        except ValueError:  # damaged, or of a kind that it does not know
            return None
        return found if slot is None else slot
