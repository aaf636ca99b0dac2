"""Which decoder turns JPEG files into pixels: the one that was named, else the fastest that is equal to Pillow here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lfm_deploy.errors import ConfigError, DecoderError, UnavailableError
from lfm_deploy.pictures.jpegs import JpegDecoder
from lfm_deploy.pictures.nvimagecodec_decoder import NvImageCodecDecoder
from lfm_deploy.pictures.self_test import describe_pillow, find_difference, load_samples
from lfm_deploy.pictures.simplejpeg_decoder import SimpleJpegDecoder

DECODERS = ("pillow", "simplejpeg", "nvimagecodec")


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureDecoder:
    """What decodes pictures: Pillow, with another decoder for the JPEG files that it can decode.

    Attributes:
        name: name on the command line.
        jpeg: decoder of JPEG files; None leaves them to Pillow.
    """

    name: str = "pillow"
    jpeg: JpegDecoder | None = None

    def describe(self) -> dict[str, Any]:
        """All that pixels depend on besides the file, as values for JSON: the name, and versions of libraries."""
        own: Mapping[str, str] = {} if self.jpeg is None else self.jpeg.versions
        return {"name": self.name, "versions": {**describe_pillow(), **own}}


PILLOW = PictureDecoder()


def choose_decoder(name: str | None = None, on_message: Callable[[str], None] = lambda _: None) -> PictureDecoder:
    """A decoder in host memory whose pixels are the contract's: the one that was named, else the fastest.

    Args:
        name: one of ``DECODERS``; None takes simplejpeg where it is installed and holds its self-test, else Pillow.
        on_message: function that is given a line on what was not taken and why.

    Raises:
        ConfigError: there is no decoder of this name.
        DecoderError: the named decoder gives other pixels than the contract's.
        UnavailableError: the named decoder is not installed, or cannot run here.
    """
    if name is not None:
        decoder = open_decoder(name)
        check_proved(decoder)
        return decoder
    try:
        # Measured: 1.7 times as fast as Pillow where pixels are wanted as they are; where they are resized, copying
        # them into Pillow's memory takes what decoding saves.
        decoder = PictureDecoder(name="simplejpeg", jpeg=SimpleJpegDecoder(before_resize=False))
        check_proved(decoder)
    except DecoderError as error:
        on_message(f"not taking simplejpeg: {error}")
    except UnavailableError:  # an extra that nobody asked for
        pass
    else:
        return decoder
    return PILLOW


def open_decoder(name: str, device: int | None = None) -> PictureDecoder:
    """A decoder as it is, proved or not.

    Args:
        name: one of ``DECODERS``.
        device: CUDA's index of the card that nvimagecodec is to decode on; None is its CPU backend.

    Raises:
        ConfigError: there is no decoder of this name.
        UnavailableError: the decoder is not installed, or cannot run here.
    """
    if name == "pillow":
        return PILLOW
    if name == "simplejpeg":
        return PictureDecoder(name=name, jpeg=SimpleJpegDecoder())
    if name == "nvimagecodec":
        return PictureDecoder(name=name, jpeg=NvImageCodecDecoder(device))
    raise ConfigError(f"decoder is {name!r}, expected {', '.join(DECODERS)}")


def check_proved(decoder: PictureDecoder) -> None:
    """Refuse a decoder whose pixels of the samples that ship with the package are not the contract's.

    Raises:
        DecoderError: pixels differ, or it decodes none of them.
    """
    differences = find_jpeg_differences(decoder)
    if differences:
        raise DecoderError(
            f"decoder {decoder.name}: gives other pixels than the contract's of {', '.join(differences)}; take "
            "--decoder pillow, or see with 'lfm-deploy verify --decoder' what that changes"
        )


def find_jpeg_differences(decoder: PictureDecoder) -> dict[str, str]:
    """How a decoder's JPEG pixels differ from the contract's, by name of the sample; empty where they are equal.

    A sample that it leaves to Pillow is no difference, unless it leaves all of them.

    Args:
        decoder: decoder to try; Pillow's own differences are ``find_differences``'s.
    """
    if decoder.jpeg is None:
        return {}
    jpeg, left, differences = decoder.jpeg, 0, dict[str, str]()
    samples = [sample for sample in load_samples() if sample.format == "JPEG"]
    for sample in samples:
        found = jpeg.decode(sample.read(), None)
        if found is None:
            left += 1
            continue
        difference = find_difference(sample, lambda _, pixels=found: pixels)  # type: ignore[misc]
        if difference is not None:
            differences[sample.name] = difference
    if left == len(samples):
        return dict.fromkeys([sample.name for sample in samples], "it cannot be decoded")
    return differences
