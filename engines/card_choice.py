"""Whether pictures can be decoded and resized on an engine's card, and whether that gives the contract's pixels."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from engines.devices import parse_device
from engines.engine import Engine
from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import DecoderError, UnavailableError
from lfm_deploy.pictures.decoders import PictureDecoder, choose_decoder
from lfm_deploy.pictures.nvimagecodec_decoder import NvImageCodecDecoder

if TYPE_CHECKING:
    from engines.card_reading import CardReader

# Those whose ``logits`` reads an array where it lies on the card.
_RUNTIMES = frozenset(["fused", "tensorrt", "tensorrt-rtx"])
# What an H100's JPEG hardware was measured to stay within, on 229 photographs: one level in few values. A decoder that
# shifts pixels, up-samples chroma plainly or turns pictures moves far more of them.
_LEVELS, _SHARE = 1, 0.001


def takes_device_arrays(engine: Engine) -> bool:
    """Whether an engine judges pixels where they lie on its one card."""
    return engine.runtime in _RUNTIMES and engine.device.startswith("cuda") and "," not in engine.device


def open_card_reader(
    engine: Engine, size: int, on_message: Callable[[str], None], *, named: bool
) -> "tuple[PictureDecoder, CardReader]":
    """A reader that decodes on the JPEG hardware of an engine's card, proved.

    Args:
        engine: engine that takes arrays on its card.
        size: side in pixels that pictures are resized to.
        on_message: function that is given a line where pixels are not equal to the last bit.
        named: whether the decoder was asked for; then pixels may be a level off in few values.

    Raises:
        DecoderError: pixels are further from the contract's than may be, or there is no JPEG hardware.
        UnavailableError: nvImageCodec or Triton is missing, or the card cannot be used.
    """
    index = parse_device(engine.device)[1]
    decoder = NvImageCodecDecoder(index)
    host = choose_decoder(None, on_message)
    reader = make_reader(decoder, host, size, engine.config, f"cuda:{index}")
    check_distance(reader.check(), on_message, named=named)
    return PictureDecoder(name=decoder.name, jpeg=decoder), reader


def make_reader(
    decoder: NvImageCodecDecoder, host: PictureDecoder, size: int, config: ModelConfig, device: str
) -> "CardReader":
    """A reader for the engines of a network.

    Raises:
        UnavailableError: Triton is missing.
    """
    try:
        import triton  # noqa: F401  # of the kernel that resizes
    except ImportError:
        raise UnavailableError(
            "decoder nvimagecodec on a card: the package triton is not installed; run 'pip install lfm-deploy[kernels]'"
        ) from None
    from engines.card_reading import CardReader

    return CardReader(decoder=decoder, host=host.jpeg, size=size, config=config, device=device)


def check_distance(found: tuple[int, float], on_message: Callable[[str], None], *, named: bool) -> None:
    """Refuse a card whose pixels are not the contract's.

    Args:
        found: largest difference in levels, and share of the values that differ, from ``CardReader.check``.
        on_message: function that is given a line where they are not equal to the last bit.
        named: whether the decoder was asked for; then pixels may be a level off in few values.

    Raises:
        DecoderError: pixels are further from the contract's than may be.
    """
    largest, share = found
    if not largest:
        return
    levels = f"{largest} level{'' if largest == 1 else 's'}"
    text = f"up to {levels} from the contract's pixels in {100 * share:.3g} % of values"
    if not named:
        raise DecoderError(f"the card is {text}; take it with --decoder nvimagecodec")
    if largest > _LEVELS or share > _SHARE:
        raise DecoderError(f"decoder nvimagecodec: the card is {text}; take --decoder pillow")
    on_message(f"nvimagecodec: the card is {text}; 'lfm-deploy verify --decoder nvimagecodec' says what that changes")
