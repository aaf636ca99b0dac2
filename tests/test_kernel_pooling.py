import numpy as np
import pytest
import reference_maps
import torch


@pytest.mark.parametrize(("n", "height", "width", "channels"), [(2, 6, 9, 16), (3, 5, 62, 48), (1, 2, 2, 512)])
def test_pooling_is_exact(kernel_device, n, height, width, channels):
    from engines.kernels.pooling import run_pool

    maps = -np.abs(np.random.default_rng(0).normal(0, 3, (n, height, width, channels))).astype(np.float16)
    maps[0, :2, :2] = -1  # ties
    expected = reference_maps.pool(maps)
    for layout in reference_maps.both_layouts(expected.shape):
        out = reference_maps.empty(layout, kernel_device)
        run_pool(torch.from_numpy(maps).to(kernel_device), out, layout)
        np.testing.assert_array_equal(reference_maps.read_back(out, layout), expected)
