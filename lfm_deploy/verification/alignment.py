"""Fakes stored as the real pictures of their set were, so that no figure is one of file formats.

For each fake a real picture of its set is drawn, by the fake's content, so that the draw is the same every time. The
fake gets that picture's size, colour or grey, and its format: of a JPEG the very quantisation tables and sub-sampling.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from PIL import Image, JpegImagePlugin

from lfm_deploy.errors import ImageError
from lfm_deploy.pictures.decoding import Source, read_rgb
from lfm_deploy.pictures.facts import PictureFacts, read_facts
from lfm_deploy.pictures.fingerprints import Fingerprint
from lfm_deploy.pictures.resizing import resize_picture

# The quality of a lossy WebP does not stand in it; this one is what encoders take by themselves, or close to it.
_WEBP_QUALITY = 80


class Alignment:
    """How the fakes of a test set are stored anew.

    Attributes:
        sha256: SHA-256 over the contents of the real pictures that are drawn from.
    """

    def __init__(self, real: Sequence[tuple[Path, Fingerprint]], fakes: Mapping[Path, Fingerprint]) -> None:
        """Take the pictures of a set.

        Args:
            real: real pictures, at least one.
            fakes: fakes with their fingerprints; any other file is left as it is.
        """
        self._real = sorted(real, key=lambda one: one[1].sha256)
        self._fakes = fakes
        self.sha256 = hashlib.sha256("".join(one.sha256 for _, one in self._real).encode()).hexdigest()

    @cached_property
    def _models(self) -> list[tuple[Path, PictureFacts]]:
        """Real pictures that can be opened, in an order that depends on their contents alone."""
        found = [(path, read_facts(path)) for path, _ in self._real]
        return [(path, facts) for path, facts in found if facts is not None]

    def to_source(self, path: Path) -> Source:
        """What to decode in place of a file."""
        return Source(str(path), partial(self.load, path))

    def load(self, path: Path) -> Path | bytes:
        """The file itself, or, of a fake, bytes of the picture as a real one is stored.

        Args:
            path: path of the picture.

        Raises:
            ImageError: the picture cannot be read, or cannot be stored so; the message is the bare reason.
        """
        fake = self._fakes.get(path)
        if fake is None:
            return path
        if not self._models:
            raise ImageError("no real picture of its set can be opened")
        model, facts = self._models[int(fake.sha256, 16) % len(self._models)]
        return store_alike(read_rgb(path), model, facts)


def store_alike(picture: Image.Image, model: Path, facts: PictureFacts) -> bytes:
    """A picture as another one is stored.

    Args:
        picture: picture of mode RGB.
        model: file of the other picture.
        facts: facts of that file.

    Raises:
        ImageError: the picture cannot be stored so; the message is the bare reason.
    """
    if picture.size != (facts.width, facts.height):
        picture = resize_picture(picture, facts.width, facts.height, Image.Resampling.BICUBIC)
    if facts.colour == "grey":
        picture = picture.convert("L")
    form, options = _choose_encoder(model, facts)
    content = io.BytesIO()
    try:
        picture.save(content, form, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ImageError(f"cannot be saved as {facts.format}: {error}") from None
    return content.getvalue()


def _choose_encoder(model: Path, facts: PictureFacts) -> tuple[str, dict[str, Any]]:
    if facts.format == "jpeg":
        with Image.open(model, formats=("JPEG",)) as opened:
            if not isinstance(opened, JpegImagePlugin.JpegImageFile):
                raise ImageError("the real picture that it was to be stored like is no JPEG any more")
            options: dict[str, Any] = {"qtables": dict(opened.quantization)}
            sampling = JpegImagePlugin.get_sampling(opened)
        return "JPEG", options | ({"subsampling": sampling} if sampling >= 0 and facts.colour != "grey" else {})
    if facts.format == "webp" and facts.lossy:
        return "WEBP", {"quality": _WEBP_QUALITY, "method": 4}
    if facts.format == "avif":
        return "AVIF", {}
    if facts.format == "heic":
        return "HEIF", {} if facts.sampling is None else {"subsampling": facts.sampling}
    return "PPM", {}  # all others keep pixels as they are
