import numpy as np
import pytest
import reference_maps
import torch


def extreme_pictures(n, height, width):
    """Random pixels; in the first picture also the smallest and the largest residuals."""
    pixels = np.random.default_rng(height).integers(0, 256, (n, height, width, 3), dtype=np.uint8)
    pixels[0, : height // 2] = 7
    pixels[0, height // 2 :] = np.where(np.indices((height - height // 2, width)).sum(0)[..., None] % 2, 255, 0)
    return pixels


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize(("n", "height", "width", "channels"), [(2, 18, 22, 16), (3, 6, 132, 16), (2, 10, 12, 48)])
def test_pixels_to_maps(kernel_device, pooled, n, height, width, channels):
    from engines.kernels.first_stage import arrange_weights, run_first_stage
    from engines.kernels.job import make_job

    rng = np.random.default_rng(1)
    weight = rng.normal(0, 0.01, (channels, 3, 2, 2)).astype(np.float16)
    bias = rng.normal(0, 0.1, channels).astype(np.float16)
    if channels == 16:
        bias -= 20  # hardly anything is above 0
    pixels = extreme_pictures(n, height, width)
    expected = reference_maps.convolve(reference_maps.residuals(pixels), weight.astype(float), bias.astype(float))
    expected = reference_maps.pool(expected) if pooled else expected
    arranged = arrange_weights(torch.from_numpy(weight), torch.from_numpy(bias), pooled=pooled).to(kernel_device)
    images = torch.from_numpy(pixels).to(kernel_device)
    for layout in reference_maps.both_layouts(expected.shape)[expected.shape[2] > 128 :]:
        out = reference_maps.empty(layout, kernel_device)
        job = make_job(images, torch.empty(n, device=kernel_device))
        run_first_stage(job, (height, width), arranged, out, layout, programs=5)
        # Products of whole residuals and float16 weights are summed in float32, and rounded once to float16.
        np.testing.assert_allclose(reference_maps.read_back(out, layout), expected, rtol=2**-11, atol=2**-11)


def test_pictures_that_are_not_there_count_as_black(kernel_device):
    from engines.kernels.first_stage import arrange_weights, run_first_stage
    from engines.kernels.job import make_job
    from engines.kernels.layout import Layout

    weight, bias = torch.full((16, 3, 2, 2), 0.01), torch.full((16,), 0.5)
    arranged = arrange_weights(weight.half(), bias.half(), pooled=True).to(kernel_device)
    pixels = torch.from_numpy(extreme_pictures(2, 8, 8)).to(kernel_device)
    layout = Layout.plain(4, 3, 3, 16)
    out = reference_maps.empty(layout, kernel_device)
    run_first_stage(make_job(pixels, torch.empty(2)), (8, 8), arranged, out, layout, programs=3)
    assert (out[2:] == 0.5).all()
    assert (out[:2].amax(dim=(1, 2)) > 0.5).all()
