import pytest
from PIL import Image

from lfm_deploy.pictures.images import find_images
from lfm_deploy.prediction.proved_range import ProvedRange
from lfm_deploy.suites import load_suites
from lfm_deploy.verification.storage_facts import describe_storage

PROVED = ProvedRange(checkpoint_sha256="0" * 64, jpeg_from=None, jpeg_tried=(98,), webp=None)


@pytest.fixture
def stored(pictures, tmp_path):
    """A suite of 24 pictures, its 12 real ones as JPEG."""
    for path in find_images(pictures):
        target = tmp_path / "s" / path.relative_to(pictures)
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as picture:
            if target.parent.name == "0_real":
                picture.save(target.with_suffix(".jpg"), quality=88, subsampling="4:2:0")
            else:
                picture.save(target)
    return load_suites(tmp_path / "s")


def test_notes_of_each_picture_and_how_many_are_outside(stored):
    found = describe_storage(stored, PROVED)["s"]
    assert found.outside == 12
    assert {path.suffix for path in found.notes} == {".jpg"}
    assert set(found.notes.values()) == {("jpeg-q88", "jpeg-420", "outside: jpeg (fails at q98)")}
    assert found.confounders[0].text == "all 12 JPEG files are real"


def test_without_an_envelope_nobody_knows_what_is_outside(stored):
    found = describe_storage(stored, None)["s"]
    assert found.outside is None
    assert set(found.notes.values()) == {("jpeg-q88", "jpeg-420")}
