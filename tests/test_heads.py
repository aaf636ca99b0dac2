import dataclasses

import numpy as np
import pytest
import torch

from lfm_deploy.errors import ShapeError
from lfm_deploy.network.model import LFM
from training.distributed import Share
from training.heads import TrainingHeads
from training.recipe import TrainingRecipe

MODEL = {"widths": [4, 8], "projection": 3, "k": 4}
RECIPE = TrainingRecipe(name="tiny", model=MODEL, crop=32)
X = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def make_heads(recipe=RECIPE, order="descending", share=None, seed=5):
    torch.manual_seed(0)
    model = LFM(dataclasses.replace(RECIPE, model=MODEL | {"order": order}).model_config()).eval()
    return TrainingHeads(model, recipe, share or Share(), torch.Generator().manual_seed(seed))


def test_without_regularisers_it_is_the_network():
    heads = make_heads(dataclasses.replace(RECIPE, rbld=False, rks_weight=0))
    logits, sampled = heads(X)
    assert torch.equal(logits, heads.model(X))
    assert sampled is None


@pytest.mark.parametrize("order", ["descending", "ascending"])
def test_both_heads_by_numpy(order):
    heads = make_heads(order=order)
    with torch.no_grad():
        logits, sampled = heads(X)
        maps = heads.model.maps(X).flatten(2).numpy().astype(np.float64)
    generator = torch.Generator().manual_seed(5)
    for_drops = torch.rand(4, 3, 4, generator=generator).numpy()
    for_places = torch.rand(4, 3, maps.shape[2], generator=generator).numpy()
    largest = np.sort(maps, axis=2)[:, :, -4:]
    values = np.where(for_drops >= np.linspace(0.1, 0.3, 4).astype(np.float32), largest / 0.8, 0)
    places = np.argsort(for_places, axis=2)[:, :, -4:]
    drawn = np.sort(np.take_along_axis(maps, places, axis=2), axis=2)
    weight, bias = (
        part.detach().numpy().astype(np.float64) for part in (heads.model.fc.weight[0], heads.model.fc.bias)
    )
    for found, expected in ((logits, values), (sampled, drawn)):
        if order == "descending":
            expected = expected[:, :, ::-1]
        # Float32 sums of 12 products of numbers around 1.
        np.testing.assert_allclose(found.numpy(), expected.reshape(4, -1) @ weight + bias, atol=1e-5)


def test_processes_draw_what_one_would():
    with torch.no_grad():
        whole = make_heads()(X)
        halves = [make_heads(share=Share(index, 2))(X[2 * index : 2 * index + 2]) for index in range(2)]
    for one, *parts in zip(whole, *halves, strict=True):
        # Convolutions of other batch sizes may round in another order.
        torch.testing.assert_close(torch.cat(parts), one, rtol=1e-5, atol=1e-6)


def test_pictures_too_small_for_k():
    with pytest.raises(ShapeError, match="positions per channel"):
        make_heads()(X[..., :6, :6])
