import io
import os

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features

from lfm_deploy.pictures import opening
from lfm_deploy.pictures.facts import PictureFacts, read_facts
from lfm_deploy.pictures.provenance import Provenance, read_provenance

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def save(form, mode="RGB", **options):
    content = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(content, form, **options)
    return content.getvalue()


@pytest.mark.parametrize(
    ("sampling", "name"), [("4:4:4", "4:4:4"), ("4:2:2", "4:2:2"), ("4:2:0", "4:2:0"), ("4:1:1", "4x1")]
)
def test_a_jpeg(sampling, name):
    facts = read_facts(save("JPEG", quality=88, subsampling=sampling))
    assert (facts.format, facts.quality, facts.standard_tables, facts.lossy) == ("jpeg", 88, True, True)
    if sampling != "4:1:1":  # which Pillow takes for 4:2:0
        assert facts.sampling == name
    assert (facts.width, facts.height, facts.colour) == (60, 40, "rgb")


def test_a_grey_jpeg_has_no_sampling():
    facts = read_facts(save("JPEG", "L"))
    assert (facts.colour, facts.sampling) == ("grey", None)


@pytest.mark.parametrize(("lossless", "lossy"), [(True, False), (False, True)])
def test_webp(lossless, lossy):
    assert read_facts(save("WEBP", lossless=lossless)).lossy is lossy
    assert read_facts(save("WEBP", "RGBA", lossless=lossless)).lossy is lossy


@pytest.mark.parametrize(("mode", "colour"), [("P", "palette"), ("L", "grey"), ("RGBA", "rgba"), ("1", "grey")])
def test_colours(mode, colour):
    assert read_facts(save("PNG", mode)).colour == colour


def test_metadata_camera_editor_and_network():
    exif = Image.Exif()
    exif[271], exif[305] = "A maker", "Adobe Photoshop 25.0 (Windows)"
    facts = read_facts(save("JPEG", exif=exif, icc_profile=b"profile", xmp=b"<x/>"))
    assert facts.metadata == ("exif", "icc", "xmp")
    assert (facts.camera, facts.editor, facts.network) == (True, "photoshop", None)
    exif[305] = "Instagram"
    assert read_facts(save("JPEG", exif=exif)).network == "instagram"
    xmp = b'<rdf:Description xmp:CreatorTool="GIMP 2.10"/>'
    assert read_facts(save("JPEG", xmp=xmp)).editor == "gimp"


def test_facebooks_note_in_iptc():
    block = b"8BIM\x04\x04\x00\x00\x00\x00\x00\x0a\x1c\x02\x28\x00\x05FBMD0"
    content = save("JPEG")
    segment = b"Photoshop 3.0\x00" + block
    marked = content[:2] + b"\xff\xed" + (len(segment) + 2).to_bytes(2, "big") + segment + content[2:]
    facts = read_facts(marked)
    assert facts.network == "facebook"
    assert facts.metadata == ("iptc",)


def test_texts_of_a_png_also_where_pillow_refuses_them():
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Software", "Krita 5")
    facts = read_facts(save("PNG", pnginfo=texts))
    assert (facts.metadata, facts.editor) == (("text",), "krita")
    texts.add_text("workflow", "x" * 2_000_000, zip=True)
    assert read_facts(save("PNG", pnginfo=texts)).format == "png"


def test_a_file_and_its_bytes_say_the_same(tmp_path):
    for index, content in enumerate([save("PNG"), save("JPEG"), save("WEBP"), save("GIF", "P")]):
        path = tmp_path / str(index)
        path.write_bytes(content)
        assert read_facts(path) == read_facts(content) is not None


@pytest.mark.parametrize("content", [b"", b"nothing", b"\xff\xd8\xff", save("PNG")[:20]])
def test_what_is_no_picture_has_no_facts(content, tmp_path):
    assert read_facts(content) is None
    assert read_facts(tmp_path / "missing.png") is None


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif():
    assert read_facts(save("AVIF")).format == "avif"


def save_heic(mode="RGB", **options):
    pytest.importorskip("pillow_heif").register_heif_opener(thumbnails=False)
    return save("HEIF", mode, **options)


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [30, 95])
def test_heic_tells_how_its_colours_are_sampled_and_not_how_much_was_lost(sampling, quality, tmp_path):
    content = save_heic(subsampling=sampling, quality=quality)
    (tmp_path / "a.jpg").write_bytes(content)
    facts = read_facts(content)
    assert facts == PictureFacts(format="heic", width=60, height=40, colour="rgb", sampling=sampling)
    assert (facts.quality, facts.lossy) == (None, None)
    assert read_facts(tmp_path / "a.jpg") == facts


def test_heic_in_grey_with_metadata_and_turned():
    exif = Image.Exif()
    exif[271], exif[274], exif[305] = "A maker", 6, "Snapseed 2.0"
    facts = read_facts(save_heic("L", exif=exif, xmp=b"<x/>"))
    assert (facts.format, facts.colour, facts.sampling) == ("heic", "grey", None)
    assert (facts.metadata, facts.camera, facts.editor) == (("exif", "xmp"), True, "snapseed")
    with opening.open_rgb(save_heic(exif=exif)) as picture:
        facts = read_facts(save_heic(exif=exif))
        assert (facts.width, facts.height) == picture.size


def test_heic_without_its_library_has_no_facts(monkeypatch):
    content = save_heic()
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    assert read_facts(content) is None


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert read_facts(tmp_path / "pipe.png") is None
    assert read_provenance(tmp_path / "pipe.png") == Provenance()
