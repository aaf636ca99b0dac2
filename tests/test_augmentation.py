import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from lfm_deploy.errors import ConfigError
from training.augmentation import Augmentation, augment

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
COORDINATES = np.stack([*np.mgrid[0:20, 0:24], np.zeros((20, 24), int)], axis=2).astype(np.uint8)
DRAWS = 1000


def many(config, picture=COORDINATES):
    return [augment(picture, np.random.default_rng([seed]), config) for seed in range(DRAWS)]


def test_crops_are_whole_and_lie_everywhere_at_even_and_odd_pixels():
    crops = many(Augmentation(crop=16, flip=0))
    assert all(crop.shape == (16, 16, 3) for crop in crops)
    assert all((np.diff(crop[:, 0, 0]) == 1).all() and (np.diff(crop[0, :, 1]) == 1).all() for crop in crops)
    corners = {tuple(crop[0, 0, :2].tolist()) for crop in crops}
    # 5 x 9 places; the chance that 1000 draws miss one of them is below 45 * (44/45)^1000 = 8e-9.
    assert corners == {(top, left) for top in range(5) for left in range(9)}


def test_half_of_the_pictures_are_mirrored():
    mirrored = np.mean([crop[0, 0, 1] > crop[0, 1, 1] for crop in many(Augmentation(crop=16))])
    # Five standard deviations of a fair coin over 1000 throws are 0.08.
    assert abs(mirrored - 0.5) < 0.08


def test_blur_and_jpeg_are_pillows_and_come_as_often_as_asked():
    whole = Augmentation(crop=20, flip=0)
    square = PICTURE[:, :20]
    plain = augment(square, np.random.default_rng(1), whole)
    assert (plain == square).all()
    compressed = augment(square, np.random.default_rng(1), Augmentation(crop=20, flip=0, jpeg=1, jpeg_quality=(70, 70)))
    buffer = io.BytesIO()
    Image.fromarray(square).save(buffer, "JPEG", quality=70)
    assert (compressed == np.asarray(Image.open(buffer))).all()
    blurred = augment(square, np.random.default_rng(1), Augmentation(crop=20, flip=0, blur=1, blur_sigma=(2, 2)))
    assert (blurred == np.asarray(Image.fromarray(square).filter(ImageFilter.GaussianBlur(2)))).all()
    for change in ("blur", "jpeg"):
        changed = np.mean(
            [(one != square).any() for one in many(Augmentation(crop=20, flip=0, **{change: 0.1}), square)]
        )
        # Five standard deviations of 1000 draws with a chance of 0.1 are 0.05.
        assert abs(changed - 0.1) < 0.05, change


def test_one_change_leaves_the_draws_of_the_others_alone():
    for seed in range(20):
        plain = augment(COORDINATES, np.random.default_rng(seed), Augmentation(crop=16))
        compressed = augment(
            COORDINATES, np.random.default_rng(seed), Augmentation(crop=16, jpeg=1, jpeg_quality=(100, 100))
        )
        # JPEG of quality 100 moves a smooth picture by a few grey levels; another crop or mirror image by more.
        assert np.abs(plain.astype(int) - compressed).mean() < 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"crop": 7}, "crop is 7, expected an even number"),
        ({"flip": 1.5}, "flip is 1.5, expected a probability"),
        ({"blur_sigma": (3.0, 1.0)}, "blur_sigma"),
        ({"jpeg_quality": (0, 100)}, "jpeg_quality"),
    ],
)
def test_values_that_mean_nothing(values, message):
    with pytest.raises(ConfigError, match=message):
        Augmentation(**values)
