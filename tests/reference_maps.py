"""What kernels are compared with: residuals, convolutions and poolings in float64 NumPy, written for reading."""

import numpy as np
import torch

from engines.kernels.layout import Layout


def residuals(pixels):
    """|NPR| of uint8 (N, H, W, 3)."""
    wide = pixels.astype(np.float64)
    return np.abs(wide - wide[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2))


def convolve(maps, weight, bias):
    """2x2 convolution without padding, and ReLU, of (N, H, W, C_in); weight (C_out, C_in, 2, 2)."""
    height, width = maps.shape[1] - 1, maps.shape[2] - 1
    taps = [maps[:, i : i + height, j : j + width] @ weight[:, :, i, j].T for i in range(2) for j in range(2)]
    return np.maximum(sum(taps) + bias, 0)


def pool(maps):
    """2x2 max pooling of (N, H, W, C); odd remainders are left out."""
    n, height, width, channels = maps.shape
    whole = maps[:, : height // 2 * 2, : width // 2 * 2]
    return whole.reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))


def lay_out(maps, layout, device):
    """Maps (N, H, W, C) in memory of a layout; what lies between pictures is large, and must not be used."""
    memory = np.full(layout.shape, 999, np.float16)
    for n, picture in enumerate(maps):
        strip, place = divmod(n, layout.across)
        memory[strip, :, place * layout.pitch :][:, : layout.width] = picture
    return torch.from_numpy(memory).to(device)


def empty(layout, device):
    """Memory of a layout in which nothing is written yet."""
    return torch.full(layout.shape, float("nan"), dtype=torch.float16, device=device)


def read_back(memory, layout):
    """Maps (N, H, W, C) out of memory of a layout."""
    held = memory.cpu().numpy()
    places = [divmod(n, layout.across) for n in range(layout.pictures)]
    return np.stack([held[strip, :, place * layout.pitch :][:, : layout.width] for strip, place in places])


def both_layouts(shape):
    """In strips and plainly."""
    return Layout.in_strips(*shape), Layout.plain(*shape)
