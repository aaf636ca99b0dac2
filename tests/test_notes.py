import io

import numpy as np
import pytest
from PIL import Image

from lfm_deploy.pictures.facts import PictureFacts
from lfm_deploy.prediction.notes import describe_facts, make_look
from lfm_deploy.prediction.proved_range import ProvedRange

PROVED = ProvedRange(checkpoint_sha256="0" * 64, jpeg_from=98, jpeg_tried=(98, 95), webp=False)


def save(width, height, form="PNG", mode="RGB", **options):
    content = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(content, form, **options)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        (save(256, 256), ()),
        (save(256, 256, "JPEG", quality=88, subsampling="4:2:0"), ("jpeg-q88", "jpeg-420", "outside: jpeg below q98")),
        (save(256, 256, "JPEG", quality=99, subsampling="4:4:4"), ("jpeg-q99",)),
        (save(180, 180), ("resized-from-180x180",)),
        (save(300, 200), ("resized-from-300x200",)),
        (save(768, 512), ("reduced-from-768x512",)),
        (save(256, 256, "WEBP", quality=80), ("webp-lossy", "outside: lossy webp")),
        (save(256, 256, "WEBP", lossless=True), ()),
        (save(256, 256, mode="P"), ("palette",)),
        (save(256, 256, mode="L"), ("grey",)),
        (save(1170, 2532, mode="L"), ("reduced-from-1170x2532", "grey", "screenshot-size")),
        (b"no picture", ()),
    ],
)
def test_notes_on_files_made_for_each(content, notes):
    assert make_look(256, PROVED)(content).notes == notes


def test_heic_is_a_format_that_changes_pixels_and_was_not_measured():
    pytest.importorskip("pillow_heif").register_heif_opener(thumbnails=False)
    content = save(256, 256, "HEIF", subsampling="4:2:0")
    assert make_look(256, PROVED)(content).notes == ("heic-420", "heic", "outside: heic was not measured")
    assert make_look(256, None)(save(256, 256, "HEIF", subsampling="4:4:4")).notes == ("heic",)


def test_without_an_envelope_notes_state_facts_alone():
    content = save(256, 256, "JPEG", quality=88, subsampling="4:2:0")
    assert make_look(256, None)(content).notes == ("jpeg-q88", "jpeg-420")


def test_tables_of_an_encoders_own_are_told():
    from PIL.JpegPresets import presets

    content = save(256, 256, "JPEG", qtables=presets["web_high"]["quantization"], subsampling="4:4:4")
    (note,) = make_look(256, None)(content).notes
    assert note.startswith("jpeg-q")
    assert note.endswith("-own-tables")


def test_at_native_size_nothing_is_resized():
    assert make_look("native", None)(save(180, 300)).notes == ("smaller-than-256",)
    assert make_look("native", None)(save(400, 300)).notes == ()


def test_editors_networks_and_cameras():
    facts = PictureFacts(
        format="png", width=1920, height=1080, colour="rgb", editor="gimp", network="instagram", camera=True
    )
    assert describe_facts(facts, "native", None) == ("editor: gimp", "network: instagram")


def test_provenance_is_read_where_it_is_asked_for():
    assert make_look(256, None)(save(256, 256)).provenance is None
    assert make_look(256, None, provenance=True)(save(256, 256)).provenance is not None
