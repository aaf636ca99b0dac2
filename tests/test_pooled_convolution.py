import numpy as np
import pytest
import reference_maps
import torch


@pytest.mark.parametrize(
    ("n", "height", "width", "inputs", "outputs"),
    [(1, 6, 128, 16, 32), (3, 7, 62, 32, 16), (5, 3, 31, 16, 48), (2, 5, 65, 16, 16), (1, 3, 3, 16, 16)],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_maps_to_pooled_maps(kernel_device, n, height, width, inputs, outputs, sign):
    from engines.kernels.layout import Layout
    from engines.kernels.pooled_convolution import run_pooled_convolution

    if kernel_device != "cpu" and torch.cuda.get_device_capability()[0] < 9:
        pytest.skip("tensor descriptors and wgmma need compute capability 9.0")
    rng = np.random.default_rng(height * width)
    maps = np.abs(rng.normal(0, 1, (n, height, width, inputs))).astype(np.float16)
    weight = (rng.normal(0, 1, (outputs, inputs, 2, 2)) / inputs**0.5).astype(np.float16)
    if sign < 0:
        weight = -np.abs(weight)  # with a small bias, most maps are negative before the ReLU
    bias = rng.normal(0, 1, outputs).astype(np.float16)
    expected = reference_maps.pool(
        reference_maps.convolve(maps.astype(float), weight.astype(float), bias.astype(float))
    )
    before = Layout.in_strips(*maps.shape)
    taps = torch.from_numpy(weight.transpose(2, 3, 1, 0).reshape(4 * inputs, outputs).copy()).to(kernel_device)
    for after in reference_maps.both_layouts(expected.shape):
        out = reference_maps.empty(after, kernel_device)
        memory = reference_maps.lay_out(maps, before, kernel_device)
        wide_bias = torch.from_numpy(bias).float().to(kernel_device)
        run_pooled_convolution(memory, before, taps, wide_bias, out, after, programs=7)
        # Sums in float32, rounded once to float16.
        np.testing.assert_allclose(reference_maps.read_back(out, after), expected, rtol=2**-10, atol=2**-11)
