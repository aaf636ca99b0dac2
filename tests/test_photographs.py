import numpy as np
import pytest

from lfm_deploy.errors import ConfigError
from lfm_deploy.pictures.photographs import cut_tiles, load_photographs, sample_tiles


def test_sample_tiles_are_real_pixels_and_all_different():
    tiles = sample_tiles(256, 256, 32)
    assert (tiles.shape, tiles.dtype) == ((32, 256, 256, 3), np.uint8)
    assert len({tile.tobytes() for tile in tiles}) == 32
    assert (tiles == sample_tiles(256, 256, 32)).all()


def test_photographs_are_those_that_scikit_learn_gives():
    from sklearn.datasets import load_sample_images

    for found, expected in zip(load_photographs(), load_sample_images().images, strict=True):
        assert np.array_equal(found, expected)
        assert found.dtype == np.uint8
        assert not found.flags.writeable  # all callers share them


@pytest.mark.parametrize("count", [1, 2, 5, 7, 30])
def test_tiles_lie_inside_and_are_as_many_as_asked(count):
    photograph = load_photographs()[0]
    assert len({tile.tobytes() for tile in cut_tiles(photograph, 100, 200, count)}) == count


def test_tiles_larger_than_the_photograph():
    with pytest.raises(ConfigError, match="do not fit"):
        sample_tiles(512, 512, 1)
