import numpy as np
import pytest
import torch

CASES = [(2, 100, 64, 16, 1), (2, 100, 16, 16, 3), (2, 16, 48, 16, 2), (2, 70, 16, 1, 2), (1, 80, 4, 64, 1)]


def make_maps(n, positions, channels, kind):
    rng = np.random.default_rng(positions)
    if kind == "ties":
        return rng.integers(-1, 2, (n, positions, channels)).astype(np.float16)
    maps = rng.normal(0, 3, (n, positions, channels))
    return (-np.abs(maps) if kind == "negative" else maps).astype(np.float16)


def largest(maps, k):
    """(N, k, C), descending."""
    return -np.sort(-maps.astype(np.float64), axis=1)[:, :k]


@pytest.mark.parametrize("kind", ["ties", "negative"])
@pytest.mark.parametrize(("n", "positions", "channels", "k", "parts"), CASES)
def test_lists_hold_the_largest_values_in_order(kernel_device, n, positions, channels, k, parts, kind):
    from engines.kernels.selection import count_lists, run_select

    maps = make_maps(n, positions, channels, kind)
    shape = n, count_lists(k, channels, parts), k, channels
    lists = torch.full(shape, float("nan"), dtype=torch.float16, device=kernel_device)
    run_select(torch.from_numpy(maps).to(kernel_device), lists)
    found = lists.cpu().numpy()
    assert (found[:, :, :-1] >= found[:, :, 1:]).all()
    # Comparing changes no value.
    np.testing.assert_array_equal(largest(found.reshape(n, -1, channels), k), largest(maps, k))


@pytest.mark.parametrize(("n", "positions", "channels", "k", "parts"), CASES)
def test_lists_to_logits(kernel_device, n, positions, channels, k, parts):
    from engines.kernels.judgement import run_judge
    from engines.kernels.selection import count_lists, run_select

    maps = make_maps(n, positions, channels, "any")
    shape = n, count_lists(k, channels, parts), k, channels
    lists = torch.empty(shape, dtype=torch.float16, device=kernel_device)
    run_select(torch.from_numpy(maps).to(kernel_device), lists)
    weight = np.random.default_rng(1).normal(0, 1, (k, channels)).astype(np.float32)
    logits = torch.full((n + 1,), 7.0, device=kernel_device)
    count = max(n - 1, 1)  # the last picture is filling
    job = torch.tensor([0, count, logits.data_ptr()], device=kernel_device)
    bias = torch.tensor([0.5], device=kernel_device)
    run_judge(lists, torch.from_numpy(weight).to(kernel_device), bias, job)
    expected = (largest(maps, k) * weight).sum(axis=(1, 2)) + 0.5
    # float32 sums of up to 1,600 products of size 3.
    np.testing.assert_allclose(logits.cpu().numpy()[:count], expected[:count], rtol=0, atol=2e-3)
    assert (logits[count:] == 7).all()
