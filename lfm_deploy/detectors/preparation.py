"""From a picture file to the input of a foreign detector, by its contract.

    file ─ Pillow ─▶ RGB ─ resize ─▶ ─ crop ─▶ uint8 (H, W, 3) ─ colour, scale, mean, std ─▶ input

A channel has 256 values, so what a float input gets is looked up: each entry is computed in float64 and rounded once.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfm_deploy.detectors.detector_contract import InputContract
from lfm_deploy.errors import ImageError
from lfm_deploy.pictures.decoding import read_rgb
from lfm_deploy.pictures.opening import MOST_PIXELS
from lfm_deploy.pictures.resizing import resize_picture


def prepare_picture(
    contract: InputContract, content: Path | bytes, slot: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Pixels of one picture, resized and cropped.

    Args:
        contract: contract of the detector's input.
        content: path of the file, or its bytes.
        slot: uint8 ``(side, side, 3)`` to write the pixels into; None for a new array.

    Returns:
        uint8 ``(H, W, 3)``, RGB.

    Raises:
        ImageError: the picture cannot be read or judged; the message is the bare reason.
    """
    picture = read_rgb(content, lambda width, height: _check_size(width, height, contract))
    width, height = _find_size(*picture.size, contract)
    if (width, height) != picture.size:  # a contract that resizes nothing has no filter
        picture = resize_picture(picture, width, height, Image.Resampling[str(contract.filter).upper()])
    if contract.crop is not None:
        picture = _crop(picture, contract.crop)
    if slot is None:
        return np.array(picture)
    slot[...] = np.asarray(picture)
    return slot


def to_network_input(images: NDArray[np.uint8], contract: InputContract) -> NDArray[np.generic]:
    """Pictures in the form that the network takes.

    Args:
        images: uint8 ``(N, H, W, 3)``, RGB.
        contract: contract of the detector's input.

    Returns:
        ``(N, 3, H, W)`` or ``(N, H, W, 3)`` of the contract's dtype, in its order of channels.
    """
    ordered = images if contract.colour == "RGB" else images[..., ::-1]
    if contract.layout == "NCHW":
        ordered = ordered.transpose(0, 3, 1, 2)
    if contract.dtype == "uint8":
        return np.ascontiguousarray(ordered)
    values = np.empty(ordered.shape, contract.dtype)
    channels = np.moveaxis(values, 1 if contract.layout == "NCHW" else 3, 0)
    pixels = np.moveaxis(ordered, 1 if contract.layout == "NCHW" else 3, 0)
    for index, (mean, std) in enumerate(zip(contract.mean, contract.std, strict=True)):
        table = ((np.arange(256) * contract.scale - mean) / std).astype(contract.dtype)
        channels[index] = table[pixels[index]]
    return values


def _check_size(width: int, height: int, contract: InputContract) -> None:
    """Refuse what is known before decoding to be too small, or to become too large."""
    if contract.too_small == "skip" and contract.crop is not None and min(width, height) < contract.crop:
        raise ImageError(
            f"{width}x{height} is smaller than the {contract.crop}x{contract.crop} that the detector judges"
        )
    new_width, new_height = _find_size(width, height, contract)
    if new_width * new_height > MOST_PIXELS:
        raise ImageError(f"{width}x{height} would become {new_width}x{new_height}, more than {MOST_PIXELS} pixels")


def _find_size(width: int, height: int, contract: InputContract) -> tuple[int, int]:
    """Width and height to resize to."""
    if contract.fit == "square" and contract.resize is not None:
        return contract.resize, contract.resize
    shorter = contract.resize
    if contract.too_small == "resize" and contract.crop is not None and min(width, height) < contract.crop:
        shorter = contract.crop
    if shorter is None:
        return width, height
    longer = int(shorter * max(width, height) / min(width, height))  # torchvision rounds down
    return (shorter, longer) if width <= height else (longer, shorter)


def _crop(picture: Image.Image, side: int) -> Image.Image:
    """The middle of a picture, after black on both sides where it is smaller; torchvision's rounding."""
    width, height = picture.size
    if width < side or height < side:
        larger = Image.new("RGB", (max(width, side), max(height, side)))
        larger.paste(picture, (max(side - width, 0) // 2, max(side - height, 0) // 2))
        picture = larger
    left, top = round((picture.width - side) / 2), round((picture.height - side) / 2)
    return picture.crop((left, top, left + side, top + side))
