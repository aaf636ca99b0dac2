import socket

import numpy as np
import pytest
from PIL import Image

from calib.sample import order_pictures
from lfm_deploy.errors import UnavailableError
from lfm_deploy.suites import load_suites
from training.demonstration_data import make_training_tiles, write_calibration_tiles, write_test_tiles
from training.photographs import TEST_PHOTOGRAPHS, TRAINING_PHOTOGRAPHS, load_named
from training.upsampling import UPSAMPLERS


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the demo downloads nothing")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_photographs_are_split_and_two_views_of_one_thing_stay_together():
    assert not set(TRAINING_PHOTOGRAPHS) & set(TEST_PHOTOGRAPHS)
    scenes = [{name.split("_")[0] for name in half} for half in (TRAINING_PHOTOGRAPHS, TEST_PHOTOGRAPHS)]
    assert not scenes[0] & scenes[1]


@pytest.mark.parametrize("name", TRAINING_PHOTOGRAPHS + TEST_PHOTOGRAPHS)
def test_every_photograph_is_on_the_disk_and_was_not_enlarged(name):
    photograph = load_named(name).astype(int)
    assert photograph.shape[2] == 3
    even = photograph[: photograph.shape[0] // 2 * 2, : photograph.shape[1] // 2 * 2]
    residual = np.abs(even - even[::2, ::2].repeat(2, axis=0).repeat(2, axis=1))
    # Neighbours in photographs differ by 2.7 grey levels or more; in the enlarged retina.jpg by 0.8, in moon.png by 0.
    assert residual.mean() > 2


def test_a_photograph_that_is_not_shipped():
    with pytest.raises(UnavailableError, match="does not ship the photograph"):
        load_named("eagle.png")


def test_without_scikit_image_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(UnavailableError, match=r"lfm-deploy\[demo\]"):
        load_named("astronaut.png")


def test_training_tiles_are_balanced_and_repeatable():
    tiles = make_training_tiles(tiles=2, side=64, seed=5)
    assert (tiles.images.shape, tiles.images.dtype) == ((4 * len(TRAINING_PHOTOGRAPHS), 64, 64, 3), np.uint8)
    assert tiles.labels.mean() == 0.5
    again = make_training_tiles(tiles=2, side=64, seed=5)
    assert (tiles.images == again.images).all()
    assert not (tiles.images == make_training_tiles(tiles=2, side=64, seed=6).images).all()


def test_test_tiles_are_a_suite_and_no_training_photograph_is_in_it(tmp_path):
    write_test_tiles(tmp_path, tiles=1, seed=0)
    (suite,) = load_suites(tmp_path)
    assert {part.name for part in suite.sets} == set(UPSAMPLERS)
    photographs = [load_named(name) for name in TEST_PHOTOGRAPHS]
    for part in suite.sets:
        assert [image.label for image in part.images].count(0) == len(TEST_PHOTOGRAPHS) == len(part.images) / 2
    for image in suite.sets[0].images:
        tile = np.asarray(Image.open(image.path))
        assert tile.shape == (256, 256, 3)
        corners = [photo for photo in photographs if (photo[:256, :256] == tile).all()]
        assert bool(corners) == (image.label == 0)


def test_calibration_tiles_are_balanced_and_of_training_photographs(tmp_path):
    write_calibration_tiles(tmp_path, tiles=5, seed=0)
    ordered = order_pictures(tmp_path, seed=0)
    assert {label: len(pictures) for label, pictures in ordered.items()} == {0: 45, 1: 45}
    homes = {picture.path.parts[0] for picture in ordered[0]}
    assert homes == {name.rpartition(".")[0] for name in TRAINING_PHOTOGRAPHS}
    photograph = load_named("astronaut.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "astronaut" / "0_real" / "00.png")), photograph[:256, :256])
