import json

import pytest

from lfm_deploy.errors import ArtifactError
from lfm_deploy.pictures.facts import PictureFacts
from lfm_deploy.prediction.proved_range import FORMAT, ProvedRange, read_proved_range

NO_QUALITY = json.dumps(
    {
        "format": FORMAT,
        "checkpoint_sha256": "0" * 64,
        "envelope": {"conditions": [{"name": "jpeg high", "acc_fake": None, "fpr": None}]},
    }
)


def condition(name, found, called):
    return {"name": name, "acc_fake": {"value": found}, "fpr": {"value": called}}


def measure(*jpeg_and_webp):
    return ProvedRange.from_conditions("0" * 64, [condition("as is", 94, 7), *jpeg_and_webp])


def facts(form="jpeg", quality=None, lossy=True):
    return PictureFacts(format=form, width=256, height=256, colour="rgb", quality=quality, lossy=lossy)


def test_jpeg_works_down_to_some_quality():
    proved = measure(condition("jpeg 98", 90, 7), condition("jpeg 95", 70, 7), condition("jpeg 90", 20, 7))
    assert proved.jpeg_from == 95
    assert [proved.find_outside(facts(quality=q)) for q in (100, 95, 94)] == [None, None, "jpeg below q95"]


def test_a_quality_that_works_below_one_that_fails_is_not_trusted():
    proved = measure(condition("jpeg 75", 90, 7), condition("jpeg 98", 90, 7), condition("jpeg 95", 20, 7))
    assert proved.jpeg_from == 98
    assert proved.find_outside(facts(quality=75)) == "jpeg below q98"


def test_where_no_jpeg_works_every_jpeg_is_outside():
    proved = measure(condition("jpeg 98", 1.1, 7.2), condition("webp 90", 0.2, 0.8), condition("webp 75", 60, 0))
    assert proved.find_outside(facts(quality=100)) == "jpeg (fails at q98)"
    assert proved.find_outside(facts("webp")) == "lossy webp"
    assert proved.find_outside(facts("webp", lossy=False)) is None
    assert proved.find_outside(facts("png", lossy=False)) is None
    assert proved.find_outside(facts("avif", lossy=None)) == "avif was not measured"


def test_a_detector_that_tells_nothing_apart_works_nowhere():
    proved = ProvedRange.from_conditions("0" * 64, [condition("as is", 50, 50), condition("jpeg 98", 50, 50)])
    assert proved.jpeg_from is None


def test_half_of_what_it_tells_apart_is_the_limit():
    # As it is 94 - 7 = 87 points.
    assert measure(condition("jpeg 98", 50.5, 7)).jpeg_from == 98
    assert measure(condition("jpeg 98", 50.4, 7)).jpeg_from is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "x"}', json.dumps({"format": FORMAT}), "[" * 9999, NO_QUALITY]
)
def test_a_damaged_file_is_one_line(tmp_path, text):
    path = tmp_path / "envelope.json"
    assert read_proved_range(path) is None
    path.write_text(text)
    with pytest.raises(
        ArtifactError, match=r"envelope\.json: .*; run 'lfm-deploy verify --suite SUITE --envelope' again"
    ):
        read_proved_range(path)
