"""What a picture file says of its past before anything is decoded: format, size, compression, colours, metadata."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, JpegImagePlugin

from lfm_deploy.pictures.jpeg_quality import estimate_quality
from lfm_deploy.pictures.opening import is_regular, open_file
from lfm_deploy.pictures.png_texts import drop_texts

_NAMES = {"MPO": "jpeg", "DIB": "bmp", "HEIF": "heic"}
_SAMPLINGS = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
_SAMPLINGS_OF_HEIC = {444: "4:4:4", 422: "4:2:2", 420: "4:2:0"}
_COLOURS = {"1": "grey", "L": "grey", "LA": "grey", "P": "palette", "PA": "palette", "RGBA": "rgba", "RGB": "rgb"}
_EXIF_MAKE, _EXIF_SOFTWARE = 271, 305
_EDITORS = re.compile(
    r"photoshop|lightroom|gimp|affinity|snapseed|picsart|canva|paint\.net|pixelmator|capture one|darktable|rawtherapee|"
    r"luminar|imagemagick|picasa|vsco|facetune|meitu|krita|figma|fotor|photoscape|acdsee|paintshop",
    re.IGNORECASE,
)
_NETWORKS = re.compile(r"instagram|facebook|twitter|tiktok|snapchat|whatsapp|wechat|telegram|pinterest", re.IGNORECASE)
# Facebook and Instagram write a note that begins so into the IPTC block of pictures that they serve.
_FACEBOOK = b"FBMD"
_HEAD_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFacts:
    """What a file says of itself.

    Attributes:
        format: name of the format in lower case, such as ``"jpeg"``.
        width, height: size in pixels, as it is decoded.
        colour: ``"rgb"``, ``"rgba"``, ``"grey"``, ``"palette"``, or another mode of Pillow in lower case.
        quality: quality of a JPEG, 1 to 100, estimated from its quantisation tables; None for other formats.
        standard_tables: whether these tables are libjpeg's own for that quality; None for other formats.
        sampling: sub-sampling of the colours of a JPEG or HEIC, such as ``"4:2:0"``; None for other formats and without
            colours.
        lossy: whether the file is compressed with loss; None where that cannot be told.
        metadata: kinds of metadata in it, sorted: ``"exif"``, ``"icc"``, ``"iptc"``, ``"text"``, ``"xmp"``.
        camera: whether EXIF names the maker of a camera.
        editor: name of a known editor in its metadata, in lower case; None without one.
        network: name of a known social network in its metadata, in lower case; None without one.
    """

    format: str
    width: int
    height: int
    colour: str
    quality: int | None = None
    standard_tables: bool | None = None
    sampling: str | None = None
    lossy: bool | None = None
    metadata: tuple[str, ...] = ()
    camera: bool = False
    editor: str | None = None
    network: str | None = None


def read_facts(content: Path | bytes) -> PictureFacts | None:
    """What a file says of itself, from its head; None where it is no picture that can be opened.

    Args:
        content: path of the file, or its bytes.
    """
    if not isinstance(content, bytes) and not is_regular(content):  # a pipe would be waited for
        return None
    # Decoders and parsers of metadata fail in many ways; what a file does not tell is no error here.
    with suppress(Exception):
        return _read(content)
    with suppress(Exception):  # texts beyond what Pillow reads
        return _read(drop_texts(content if isinstance(content, bytes) else content.read_bytes()))
    return None


def _read(content: Path | bytes) -> PictureFacts:
    with open_file(content) as picture:
        form = _NAMES.get(picture.format or "", (picture.format or "").lower())
        exif = _read_exif(picture)
        said = " ".join(_texts(picture, exif))
        editor, network = _EDITORS.search(said), _NETWORKS.search(said)
        facts: dict[str, Any] = {
            "format": form,
            "width": picture.width,
            "height": picture.height,
            "colour": _COLOURS.get(picture.mode, picture.mode.lower()),
            "metadata": tuple(sorted(_kinds(picture, exif))),
            "camera": bool(exif.get(_EXIF_MAKE)),
            "editor": editor[0].lower() if editor else None,
            "network": network[0].lower() if network else "facebook" if _FACEBOOK in _iptc(picture) else None,
            "lossy": _is_lossy(form, content),
        }
        if isinstance(picture, JpegImagePlugin.JpegImageFile):
            quality, standard = estimate_quality(picture.quantization)
            facts |= {"quality": quality, "standard_tables": standard, "sampling": _sampling(picture)}
        elif form == "heic":  # its library tells neither how strongly it is compressed nor whether with loss
            facts["sampling"] = _SAMPLINGS_OF_HEIC.get(picture.info.get("chroma", 0))
    return PictureFacts(**facts)


def _sampling(picture: JpegImagePlugin.JpegImageFile) -> str | None:
    if picture.layers < 3:
        return None
    found = _SAMPLINGS.get(JpegImagePlugin.get_sampling(picture))
    if found is None:
        across, down = picture.layer[0][1:3]
        found = f"{across}x{down}"
    return found


def _is_lossy(form: str, content: Path | bytes) -> bool | None:
    if form == "webp":
        head = content[:_HEAD_BYTES] if isinstance(content, bytes) else _head(content)
        return b"VP8L" not in head if b"VP8 " in head or b"VP8L" in head else None
    return {"jpeg": True, "png": False, "bmp": False, "ppm": False, "gif": False}.get(form)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _read_exif(picture: Image.Image) -> dict[int, Any]:
    if picture.format == "PNG" and "exif" not in picture.info:
        return {}  # Pillow would decode the whole picture to look behind it
    with suppress(Exception):  # damaged EXIF is none
        return dict(picture.getexif())
    return {}


def _kinds(picture: Image.Image, exif: dict[int, Any]) -> set[str]:
    kinds = {
        name
        for name, key in (("icc", "icc_profile"), ("xmp", "xmp"), ("iptc", "photoshop"), ("text", "comment"))
        if picture.info.get(key)
    }
    if exif:
        kinds.add("exif")
    texts = {name for name, value in picture.info.items() if isinstance(value, str)}
    if picture.format == "PNG" and texts - {"XML:com.adobe.xmp"}:
        kinds.add("text")
    return kinds


def _texts(picture: Image.Image, exif: dict[int, Any]) -> Iterator[str]:
    """What may name an editor: EXIF, XMP's tool, comments and texts."""
    yield str(exif.get(_EXIF_SOFTWARE, ""))
    xmp = picture.info.get("xmp", b"")
    found = re.search(rb"CreatorTool[>=]\s*[\"']?([^<\"']{1,80})", xmp if isinstance(xmp, bytes) else str(xmp).encode())
    yield found[1].decode(errors="replace") if found else ""
    for key in ("Software", "software"):
        yield str(picture.info.get(key, ""))[:200]
    comment = picture.info.get("comment", b"")
    yield (comment if isinstance(comment, bytes) else str(comment).encode())[:200].decode(errors="replace")


def _iptc(picture: Image.Image) -> bytes:
    blocks = picture.info.get("photoshop")
    return (
        b" ".join(value for value in blocks.values() if isinstance(value, bytes)) if isinstance(blocks, dict) else b""
    )
