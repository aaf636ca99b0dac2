import numpy as np
import pytest
import torch

from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import ConfigError, ShapeError
from lfm_deploy.metrics import average_precision
from lfm_deploy.model import normalise
from training.data import make_training_tiles
from training.train import TrainConfig, TrainingError, train

TINY = ModelConfig(widths=(8, 8, 16), projection=8, k=8)


@pytest.fixture(scope="module")
def tiles():
    return make_training_tiles(tiles=4, side=64, seed=0)


def test_it_learns_and_reports_each_epoch(tiles):
    seen = []
    model = train(TINY, tiles.images, tiles.labels, TrainConfig(epochs=25, batch=16, learning_rate=5e-3), seen.append)
    assert [result.epoch for result in seen] == list(range(1, 26))
    assert seen[-1].loss < 0.6 * seen[0].loss
    assert not model.training
    with torch.inference_mode():
        logits = model(normalise(torch.from_numpy(tiles.images))).numpy()
    # Chance is 0.5 on balanced classes.
    assert average_precision(logits, tiles.labels) > 0.9


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone(tiles):
    before = torch.random.get_rng_state()
    first, second, other = (
        train(TINY, tiles.images, tiles.labels, TrainConfig(epochs=1, batch=16, seed=seed)).state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_loss_that_is_no_number_stops_the_training(tiles):
    with pytest.raises(TrainingError, match=r"loss is .* in epoch 1"):
        train(TINY, tiles.images, tiles.labels, TrainConfig(epochs=2, batch=16, learning_rate=1e30))


def test_what_cannot_be_trained_on(tiles):
    with pytest.raises(ShapeError, match="equal numbers"):
        train(TINY, tiles.images, tiles.labels[:-1], TrainConfig())
    with pytest.raises(ShapeError, match=">= 32"):
        train(TINY, tiles.images[:5], tiles.labels[:5], TrainConfig())
    with pytest.raises(ConfigError, match="epochs >= 1"):
        TrainConfig(epochs=0)


def test_pictures_are_mirrored_left_to_right_and_half_of_them():
    from training.train import _flipped

    images = torch.arange(4, dtype=torch.uint8).view(1, 1, 4, 1).expand(1000, 2, 4, 3)
    flipped = _flipped(images, torch.Generator().manual_seed(0))
    mirrored = (flipped[:, 0, 0, 0] == 3).float().mean().item()
    assert set(np.unique(flipped[:, 0, 0, 0])) == {0, 3}
    # Five standard deviations of a fair coin over 1000 throws are 0.08.
    assert abs(mirrored - 0.5) < 0.08
