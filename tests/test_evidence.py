import numpy as np
import pytest
import torch

from lfm_deploy.errors import ShapeError
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.network.evidence import draw_evidence, evidence_contributions, evidence_map
from lfm_deploy.network.model import normalise
from lfm_deploy.network.residuals import neighbouring_pixel_relationships
from lfm_deploy.pictures.photographs import sample_tiles


def explain(model, tile):
    """Logit, contributions ``(C, k)`` and positions ``(C, k)`` of one picture, through the PyTorch modules."""
    with torch.inference_mode():
        x = normalise(torch.from_numpy(tile[None]))
        maps = model.projection(model.snet(neighbouring_pixel_relationships(x)))
        values, positions = model.pool.select(maps)
        logit = float(model(x))
    contributions = evidence_contributions(values.numpy(), model.fc.weight.numpy())
    return logit, contributions[0], positions[0].numpy().astype(np.int32)


def test_the_map_sums_to_the_logit_without_its_bias(official_checkpoint):
    model = read_checkpoint(official_checkpoint).build_model()
    for tile in sample_tiles(128, 160, 3):
        logit, contributions, positions = explain(model, tile)
        spread = evidence_map(contributions, positions, model.config, 128, 160)
        # The acceptance; the linear layer sums the same 1024 float32 terms in another order.
        assert spread.sum() == pytest.approx(logit - float(model.fc.bias), abs=1e-3)


def test_pixels_that_no_evidence_lies_on_do_not_matter(small_checkpoint):
    """Grey out, block by block, all that the map says is not evidence, and the selected values stay."""
    model = read_checkpoint(small_checkpoint).build_model()
    (tile,) = sample_tiles(256, 256, 1)
    _logit, contributions, positions = explain(model, tile)
    spread = evidence_map(contributions, positions, model.config, 256, 256)
    unused = spread == 0
    # A block's NPR depends on its top-left pixel, so a block goes only when all of it is unused.
    unused = unused.reshape(128, 2, 128, 2).all(axis=(1, 3)).repeat(2, 0).repeat(2, 1)
    assert unused.any()
    grey = tile.copy()
    grey[unused] = 128
    with torch.inference_mode():
        maps = [
            model.projection(model.snet(neighbouring_pixel_relationships(normalise(torch.from_numpy(image[None])))))
            for image in (tile, grey)
        ]
    at = torch.from_numpy(positions.astype(np.int64))[None]
    before, after = (part.flatten(2).gather(2, at) for part in maps)
    assert torch.equal(before, after)


def test_the_drawing_is_red_for_fake_and_blue_for_real():
    picture = np.full((4, 4, 3), 100, np.uint8)
    spread = np.zeros((4, 4))
    spread[0, 0], spread[3, 3] = 1.0, -1.0
    drawn = np.asarray(draw_evidence(picture, spread)).astype(int)
    assert drawn[0, 0, 0] > drawn[0, 0, 2]
    assert drawn[3, 3, 2] > drawn[3, 3, 0]
    assert drawn[1, 1].tolist() == [100, 100, 100]


def test_parts_that_do_not_belong_together():
    with pytest.raises(ShapeError, match="do not belong together"):
        evidence_contributions(np.zeros((1, 4, 4), np.float32), np.zeros((1, 15), np.float32))
    with pytest.raises(ShapeError, match="same picture"):
        draw_evidence(np.zeros((4, 6, 3), np.uint8), np.zeros((4, 4)))
