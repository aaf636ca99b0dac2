"""The card's resize against Pillow's; interpreted on a CPU where there is no GPU."""

import numpy as np
import pytest
from PIL import Image

from lfm_deploy.pictures.resizing import resize_picture


def resize_on(device, pictures, side):
    import torch

    from engines.kernels.resizing import DevicePixels, run_resize

    held = [torch.from_numpy(one).to(device) for one in pictures]
    out = torch.full((len(held) + 1, side, side, 3), 77, dtype=torch.uint8, device=device)
    sources = [DevicePixels(one.data_ptr(), *one.shape[:2], one.stride(0)) for one in held]
    order = list(reversed(range(len(held))))
    run_resize(sources, order, out)
    found = out.cpu().numpy()
    assert (found[len(held)] == 77).all()
    return found[order]


@pytest.mark.parametrize("seed", range(12))
def test_a_batch_of_random_sizes_is_pillows(seed, kernel_device):
    rng = np.random.default_rng(seed)
    top = 4000 if kernel_device != "cpu" else 300
    shapes = [tuple(int(min(top, np.exp(rng.uniform(0, np.log(top + 1))))) for _ in range(2)) for _ in range(4)]
    side = int(rng.choice([2, 16, 30, 64]))
    pictures = [rng.choice([0, 1, 128, 254, 255], size=(*shape, 3)).astype(np.uint8) for shape in shapes]
    found = resize_on(kernel_device, pictures, side)
    for one, picture in zip(found, pictures, strict=True):
        expected = np.asarray(resize_picture(Image.fromarray(picture), side, side))
        assert np.array_equal(one, expected), (picture.shape, side)


@pytest.mark.parametrize("shape", [(64, 64), (64, 90), (90, 64), (1, 1), (4000, 3), (3, 4000)])
def test_an_unchanged_axis_and_extreme_ones(shape, kernel_device):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    (found,) = resize_on(kernel_device, [picture], 64)
    assert np.array_equal(found, np.asarray(resize_picture(Image.fromarray(picture), 64, 64)))


def test_rows_that_lie_apart_are_read_where_they_are(kernel_device):
    import torch

    from engines.kernels.resizing import DevicePixels, run_resize

    wide = np.random.default_rng(1).integers(0, 256, (40, 100, 3), dtype=np.uint8)
    held = torch.from_numpy(wide).to(kernel_device)
    out = torch.zeros(1, 16, 16, 3, dtype=torch.uint8, device=kernel_device)
    run_resize([DevicePixels(held.data_ptr(), 40, 33, held.stride(0))], [0], out)
    expected = resize_picture(Image.fromarray(wide[:, :33]), 16, 16)
    assert np.array_equal(out[0].cpu().numpy(), np.asarray(expected))
