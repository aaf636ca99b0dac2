import io

import numpy as np
import pytest
from PIL import Image

from lfm_deploy.pictures.jpeg_quality import estimate_quality


def tables_of(**options):
    content = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).convert(options.pop("mode", "RGB")).save(content, "JPEG", **options)
    with Image.open(content) as picture:
        return picture.quantization


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 51, 75, 88, 95, 99, 100])
def test_the_quality_of_libjpeg_is_found_again(quality):
    assert estimate_quality(tables_of(quality=quality)) == (quality, True)
    assert estimate_quality(tables_of(quality=quality, mode="L")) == (quality, True)


def test_tables_of_ones_own_get_the_nearest_quality():
    tables = tables_of(quality=88)
    own = {
        number: [min(255, step + (index % 7 == 3)) for index, step in enumerate(table)]
        for number, table in tables.items()
    }
    quality, standard = estimate_quality(own)
    assert not standard
    assert 84 <= quality <= 90  # a seventh of the steps is coarser by one


def test_photoshops_tables_are_not_libjpegs():
    from PIL.JpegPresets import presets

    quality, standard = estimate_quality(dict(enumerate(presets["web_high"]["quantization"])))
    assert not standard
    assert 60 <= quality <= 95
