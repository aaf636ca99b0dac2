import dataclasses

import numpy as np
import pytest
import torch

from lfm_deploy.errors import ConfigError
from lfm_deploy.exploration.examples import Explainer, Kind, choose_examples, residual_levels
from lfm_deploy.network.checkpoint import Checkpoint, read_checkpoint
from lfm_deploy.network.model import normalise
from lfm_deploy.network.residuals import neighbouring_pixel_relationships
from lfm_deploy.pictures.photographs import sample_tiles


def chosen(labels, logits, sets=None, threshold=0.0, count=4):
    found = choose_examples(labels, np.array(logits, np.float32), sets or ["a"] * len(labels), threshold, count)
    return [(index, kind.title) for index, kind in found]


def test_the_surest_right_and_the_worst_wrong_of_each_class():
    labels = [0, 0, 0, 1, 1, 1, 0, 1, 0, 1]
    logits = [-1, -9, -2, 3, 8, 1, 5, -6, 2, -1]
    assert chosen(labels, logits) == [
        (1, "real, judged real"),
        (4, "fake, judged fake"),
        (6, "real, judged fake"),
        (7, "fake, judged real"),
    ]


def test_where_nothing_is_wrong_the_right_ones_take_the_places():
    assert chosen([0, 0, 1, 1], [-1, -2, 2, 1]) == [
        (1, "real, judged real"),
        (0, "real, judged real"),
        (2, "fake, judged fake"),
        (3, "fake, judged fake"),
    ]


def test_test_sets_take_turns_where_the_verdict_is_right_and_only_there():
    sets = ["a", "a", "b", "a", "a", "b"]
    found = chosen([0] * 6, [-9, -8, -1, 9, 8, 1], sets)
    assert [index for index, _ in found] == [0, 2, 3, 4]


def test_pictures_without_a_label_are_told_by_their_verdict_and_the_threshold_counts():
    assert chosen([None, None, None], [3.5, 0, 9], threshold=4, count=2) == [
        (1, "judged real"),
        (2, "judged fake"),
    ]
    assert chosen([], []) == []


@pytest.fixture(scope="module")
def explained(small_checkpoint):
    checkpoint = read_checkpoint(small_checkpoint)
    (tile,) = sample_tiles(96, 80, 1)
    return checkpoint, tile, Explainer(checkpoint).explain(7, Kind(1, 0), tile)


def test_an_example_belongs_to_its_picture(explained):
    checkpoint, tile, example = explained
    assert (example.index, example.kind.right) == (7, False)
    assert (example.picture == tile).all()
    with torch.inference_mode():
        model = checkpoint.build_model()
        logit = float(model(normalise(torch.from_numpy(tile[None]))))
    # The linear layer's terms, folded and in another order of float32 sums; weights here are around 20.
    assert example.spread.sum() == pytest.approx(logit - float(model.fc.bias), rel=1e-3, abs=1e-2)


def test_selected_counts_the_values_that_see_a_pixel(explained):
    checkpoint, tile, example = explained
    model, config = checkpoint.build_model(), checkpoint.config
    with torch.inference_mode():
        x = normalise(torch.from_numpy(tile[None]))
        maps = model.maps(x)[0].flatten(1).numpy()
    expected = np.zeros(tile.shape[:2])
    columns = config.map_size(*tile.shape[:2])[1]
    for channel in maps:
        for position in np.argsort(-channel, kind="stable")[: config.k]:
            row, column = (int(part) * config.stride for part in divmod(position, columns))
            expected[row : row + config.receptive_field, column : column + config.receptive_field] += 1
    # Where two values tie within rounding, another position may be selected: then a square of pixels differs.
    assert (np.abs(example.selected - expected) > 0.5).mean() < 0.05
    assert example.selected.max() > 1


def test_residuals_are_those_of_the_network_in_grey_levels(explained):
    _, tile, example = explained
    pixels = torch.from_numpy(tile.astype(np.float32)).permute(2, 0, 1)[None]
    expected = neighbouring_pixel_relationships(pixels).mean(dim=1)[0].numpy()
    # Means of three integers, summed in another order.
    assert example.residual == pytest.approx(expected, abs=1e-4)
    assert not residual_levels(np.full((4, 6, 3), 9, np.uint8)).any()


class Mean(torch.nn.Module):
    def forward(self, maps):
        return maps.mean(dim=(2, 3))


class MeanCheckpoint(Checkpoint):
    """A network whose pooling mixes positions."""

    def build_model(self):
        model = super().build_model()
        model.pool, model.fc = Mean(), torch.nn.Linear(self.config.projection, 1)
        return model.eval().requires_grad_(False)


def test_a_pooling_that_selects_nothing_has_no_evidence(explained):
    fields = {field.name: getattr(explained[0], field.name) for field in dataclasses.fields(Checkpoint)}
    with pytest.raises(ConfigError, match=r"need Top-K pooling.*pools by Mean\(\)"):
        Explainer(MeanCheckpoint(**fields))
