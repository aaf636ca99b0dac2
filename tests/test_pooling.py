import numpy as np
import pytest
import torch

from lfm_deploy.config import ModelConfig, Pooling, ValueOrder
from lfm_deploy.network.pooling import AttentionPooling, TopKPooling, build_pooling


@pytest.fixture
def maps():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(3, 16, 5, 7)).astype(np.float32))


@pytest.mark.parametrize("order", list(ValueOrder))
def test_topk_takes_the_largest_values_in_the_configured_order(order):
    maps = torch.tensor([[[[3.0, 9.0], [1.0, 5.0]], [[0.0, -1.0], [-2.0, -3.0]]]])
    expected = {ValueOrder.DESCENDING: [9, 5, 3, 0, -1, -2], ValueOrder.ASCENDING: [3, 5, 9, -2, -1, 0]}
    assert TopKPooling(3, order)(maps).tolist() == [expected[order]]
    values, positions = TopKPooling(3, order).select(maps)
    assert torch.equal(maps.flatten(2).gather(2, positions), values)


@pytest.mark.parametrize(("pooling", "reference"), [(Pooling.AVERAGE, np.mean), (Pooling.MAX, np.max)])
def test_average_and_max_are_over_all_positions(maps, pooling, reference):
    found = build_pooling(ModelConfig(pooling=pooling, projection=16))(maps)
    # A mean of 35 float32 values of about 1.
    np.testing.assert_allclose(found.numpy(), reference(maps.numpy(), axis=(2, 3)), rtol=0, atol=1e-6)


def test_attention_weighs_all_positions(maps):
    """The formula in NumPy, float64, position by position."""
    torch.manual_seed(0)
    pool = build_pooling(ModelConfig(pooling=Pooling.ATTENTION, projection=16))
    assert isinstance(pool, AttentionPooling)
    reduce, bias = pool.reduce.weight[:, :, 0, 0].detach().double().numpy(), pool.reduce.bias.detach().double().numpy()
    score = pool.score.weight[0, :, 0, 0].detach().double().numpy()
    assert reduce.shape == (2, 16)
    columns = maps.double().numpy().reshape(3, 16, 35)
    hidden = np.maximum(np.einsum("rc,ncp->nrp", reduce, columns) + bias[:, None], 0)
    weights = np.exp(np.einsum("r,nrp->np", score, hidden))
    weights /= weights.sum(axis=1, keepdims=True)
    expected = np.einsum("ncp,np->nc", columns, weights)
    # Sums of 35 float32 terms of about 1.
    np.testing.assert_allclose(pool(maps).detach().numpy(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("pooling", [Pooling.AVERAGE, Pooling.ATTENTION])
def test_means_of_float16_maps_are_taken_in_float32(pooling):
    pool = build_pooling(ModelConfig(pooling=pooling, projection=8)).half().requires_grad_(False)
    # 4,900 positions of 60: their sum, 294,000, is beyond float16.
    found = pool(torch.full((1, 8, 70, 70), 60.0, dtype=torch.float16))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.full((1, 8), 60.0), rtol=1e-5, atol=0)
