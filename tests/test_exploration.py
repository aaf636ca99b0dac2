import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from test_examples import MeanCheckpoint

from lfm_deploy.errors import ConfigError, DeployError, InputError
from lfm_deploy.exploration.exploration import explore
from lfm_deploy.exploration.specimens import find_specimens
from lfm_deploy.network.checkpoint import Checkpoint, read_checkpoint
from lfm_deploy.network.model import normalise
from lfm_deploy.pictures.images import read_image
from lfm_deploy.pictures.photographs import sample_tiles


@pytest.fixture(scope="module")
def checkpoint(small_checkpoint):
    return read_checkpoint(small_checkpoint)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two test sets of 6 real and 6 fake pictures, and a file that is no picture in each of them."""
    folder = tmp_path_factory.mktemp("explored") / "sets"
    for index, tile in enumerate(sample_tiles(96, 96, 24)):
        home = folder / ("first", "second")[index % 2] / ("0_real", "1_fake")[index // 2 % 2]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tile).save(home / f"{index:02}.png")
    for name in ("first", "second"):
        (folder / name / "0_real" / "00-broken.png").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def found(checkpoint, folder):
    return explore(checkpoint, find_specimens(folder, size=64), maps=4)


def test_vectors_and_logits_are_those_of_the_network_picture_by_picture(checkpoint, found):
    model = checkpoint.build_model()
    assert len(found.specimens) == 24
    for index in (0, 11, 23):
        pixels = torch.from_numpy(read_image(found.specimens[index].path, 64, checkpoint.config)[None])
        with torch.inference_mode():
            vector = model.features(normalise(pixels))[0]
            logit = model(normalise(pixels))[0]
        # Alone or in a batch of 8, convolutions sum in another order; weights of the linear layer are around 20.
        assert found.vectors[index] == pytest.approx(vector.numpy(), rel=1e-4, abs=1e-5)
        assert found.logits[index] == pytest.approx(float(logit), rel=1e-3, abs=1e-2)
    assert found.vectors_name == "TKP vectors"
    assert found.embedding.points.shape == (24, 2)


def test_what_cannot_be_read_is_listed(found):
    assert [picture.path.name for picture in found.skipped] == ["00-broken.png"] * 2
    assert "not a picture" in found.skipped[0].reason
    assert [specimen.test_set for specimen in found.specimens] == ["first"] * 12 + ["second"] * 12


def test_separation_is_measured_over_all_and_in_each_test_set(found):
    assert found.separations.keys() == {"first", "second"}
    for score in (found.separation, *found.separations.values()):
        assert -1 <= score <= 1


def test_examples_are_of_the_pictures_that_they_name(checkpoint, found):
    assert len(found.examples) == 4
    assert found.no_examples is None
    for example in found.examples:
        specimen = found.specimens[example.index]
        assert (example.picture == read_image(specimen.path, 64, checkpoint.config)).all()
        assert example.kind.label == specimen.label
        assert example.kind.verdict == (found.logits[example.index] > 0)


def test_another_pooling_is_laid_out_without_evidence(checkpoint, folder):
    fields = {field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(Checkpoint)}
    found = explore(MeanCheckpoint(**fields), find_specimens(folder, size=64))
    assert found.vectors.shape == (24, checkpoint.config.projection)
    assert found.vectors_name == "Pooled vectors"
    assert found.examples == []
    assert "need Top-K pooling" in found.no_examples


def test_one_class_alone_has_no_separation(checkpoint, folder):
    specimens = [specimen for specimen in find_specimens(folder, size=64) if specimen.label == 1]
    found = explore(checkpoint, specimens, maps=0)
    assert found.separation is None
    assert (found.examples, found.no_examples) == ([], None)


def test_pictures_of_several_sizes_keep_their_order(checkpoint, folder):
    specimens = [
        dataclasses.replace(specimen, size=64 if specimen.test_set == "first" else "native")
        for specimen in find_specimens(folder)
    ]
    found = explore(checkpoint, specimens, maps=0)
    assert found.specimens == [specimen for specimen in specimens if "broken" not in specimen.path.name]


def test_too_few_or_none_that_can_be_read(checkpoint, folder, tmp_path):
    with pytest.raises(InputError, match="t-SNE of 9 pictures would show nothing"):
        explore(checkpoint, find_specimens(folder)[:9])
    with pytest.raises(ConfigError, match="perplexity is 20"):
        explore(checkpoint, find_specimens(folder), perplexity=20)
    for index in range(12):
        (tmp_path / f"{index}.png").write_text("no picture")
    with pytest.raises(InputError, match=r"none of 12 pictures can be read; the first is .*0\.png: cannot be read"):
        explore(checkpoint, find_specimens(tmp_path))


def test_a_vector_that_is_no_number_is_an_error(checkpoint, folder):
    state = dict(checkpoint.state)
    state["projection.weight"] = torch.full_like(state["projection.weight"], float(np.finfo(np.float32).max))
    broken = dataclasses.replace(checkpoint, state=state)
    with pytest.raises(DeployError, match=r"\.png: the network's vector of it is not finite"):
        explore(broken, find_specimens(folder, size=64))
