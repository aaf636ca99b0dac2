"""The ways in which generators up-sample, applied to photographs: fakes whose traces are known.

Every function takes and gives uint8 ``(H, W, 3)`` with even sides: the picture is halved by averaging 2x2 blocks and
brought back to its size, so that content stays and only the relation between neighbouring pixels changes.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

Picture = NDArray[np.uint8]
Upsampler = Callable[[Picture, np.random.Generator], Picture]


def halve(picture: Picture) -> Picture:
    """Mean of each 2x2 block, rounded: ``(H, W, 3)`` -> ``(H/2, W/2, 3)``."""
    height, width, channels = picture.shape
    blocks = picture.reshape(height // 2, 2, width // 2, 2, channels).astype(np.float32)
    return _to_pixels(blocks.mean(axis=(1, 3)))


def upsample_nearest(picture: Picture, _rng: np.random.Generator) -> Picture:
    """Each pixel becomes a 2x2 block, as in ProGAN and StyleGAN's first form."""
    return halve(picture).repeat(2, axis=0).repeat(2, axis=1)


def upsample_bilinear(picture: Picture, _rng: np.random.Generator) -> Picture:
    """Pillow's bilinear filter, as in StyleGAN's blurred up-sampling and many decoders."""
    return _resize(picture, Image.Resampling.BILINEAR)


def upsample_bicubic(picture: Picture, _rng: np.random.Generator) -> Picture:
    """Pillow's bicubic filter, as in super-resolution stages of diffusion pipelines."""
    return _resize(picture, Image.Resampling.BICUBIC)


def upsample_transposed(picture: Picture, rng: np.random.Generator) -> Picture:
    """A 4x4 transposed convolution of stride 2 with a random kernel, as in DCGAN, CycleGAN and StarGAN.

    The four taps that reach an output pixel sum to 1 only on average over its neighbours, which leaves the checkerboard
    that transposed convolutions are known for (Odena et al., 2016).
    """
    # Two taps along each axis reach a pixel: 3/4 and 1/4 interpolate linearly; random changes unbalance them.
    taps = np.array([0.25, 0.75, 0.75, 0.25]) + rng.normal(0, 0.05, 4)
    kernel = torch.from_numpy(np.outer(taps, taps)).float()
    weight = kernel.expand(3, 1, 4, 4).contiguous()
    pixels = F.pad(_to_tensor(halve(picture)), (1, 1, 1, 1), mode="replicate")
    up = F.conv_transpose2d(pixels, weight, stride=2, padding=3, groups=3)
    return _from_tensor(up)


def upsample_pixel_shuffle(picture: Picture, rng: np.random.Generator) -> Picture:
    """A 3x3 convolution to four channels that are woven into 2x2 blocks (Shi et al., 2016), as in ESRGAN's kind.

    Each of the four sub-pixel positions has a random kernel of its own, a linear interpolation with random changes that
    sums to 1, so flat colours stay flat.
    """
    near, far = 0.75, 0.25
    kernels = np.zeros((4, 3, 3))
    for index in range(4):
        rows, columns = np.zeros(3), np.zeros(3)
        rows[1], rows[2 * (index // 2)] = near, far
        columns[1], columns[2 * (index % 2)] = near, far
        kernels[index] = np.outer(rows, columns)
    kernels += rng.normal(0, 0.03, kernels.shape)
    kernels /= kernels.sum(axis=(1, 2), keepdims=True)
    weight = torch.from_numpy(np.tile(kernels, (3, 1, 1))[:, None]).float()
    pixels = F.pad(_to_tensor(halve(picture)), (1, 1, 1, 1), mode="replicate")
    return _from_tensor(F.pixel_shuffle(F.conv2d(pixels, weight, groups=3), 2))


UPSAMPLERS: dict[str, Upsampler] = {
    "nearest": upsample_nearest,
    "bilinear": upsample_bilinear,
    "bicubic": upsample_bicubic,
    "transposed": upsample_transposed,
    "pixel_shuffle": upsample_pixel_shuffle,
}


def _resize(picture: Picture, resampling: Image.Resampling) -> Picture:
    height, width, _ = picture.shape
    return np.asarray(Image.fromarray(halve(picture)).resize((width, height), resampling))


def _to_tensor(picture: Picture) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).float()[None]


def _from_tensor(pixels: torch.Tensor) -> Picture:
    return _to_pixels(pixels[0].permute(1, 2, 0).numpy())


def _to_pixels(values: NDArray[np.float32]) -> Picture:
    return np.ascontiguousarray(values.round().clip(0, 255).astype(np.uint8))
