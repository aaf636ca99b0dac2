"""What a picture says of its own origin: C2PA manifests, IPTC's source type, parameters of generators.

None of it is part of a verdict: a file without any says nothing, and all but a signature that holds can be written by
anybody.
"""

import io
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lfm_deploy.errors import UnavailableError
from lfm_deploy.pictures.opening import is_regular, open_file
from lfm_deploy.pictures.png_texts import read_texts

_SOURCE_TYPE = re.compile(
    rb"DigitalSourceType[^A-Za-z]{1,9}(?:rdf:resource=.)?http://cv\.iptc\.org/newscodes/digitalsourcetype/([A-Za-z]+)",
    re.IGNORECASE,
)
_MIME_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
    "TIFF": "image/tiff",
    "GIF": "image/gif",
}
# By the keyword of a text in a PNG: who writes such a text.
_GENERATORS = {
    "parameters": "Stable Diffusion web UI",
    "workflow": "ComfyUI",
    "invokeai_metadata": "InvokeAI",
    "sd-metadata": "InvokeAI",
    "dream": "InvokeAI",
    "fooocus_scheme": "Fooocus",
    "generation_data": "TensorArt",
}
_NAMED = re.compile(
    r"novelai|midjourney|dall-?e|stable diffusion|adobe firefly|imagen|flux\.1|ideogram|leonardo", re.IGNORECASE
)
_EXIF_SOFTWARE, _EXIF_IFD, _EXIF_COMMENT = 305, 0x8769, 37510
# What the web UI writes into the comment of a JPEG or WebP.
_PARAMETERS = re.compile(r"Steps: \d+, .*Sampler: ", re.DOTALL)
# States of c2pa-rs, as they are told here.
_SIGNATURES = {"Trusted": "holds, of a trusted signer", "Valid": "holds, of an unknown signer"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a picture says of its own origin; None where it says nothing.

    Attributes:
        c2pa: name and version of what wrote its C2PA manifest, and who signed it.
        c2pa_signature: whether that signature holds over these pixels, in words.
        source_type: IPTC's digital source type, such as ``"trainedAlgorithmicMedia"``, by the manifest or by XMP.
        generator: name of the generator whose parameters it carries.
    """

    c2pa: str | None = None
    c2pa_signature: str | None = None
    source_type: str | None = None
    generator: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """The columns of a row."""
        return {name: getattr(self, name) for name in PROVENANCE_COLUMNS}


PROVENANCE_COLUMNS = ("c2pa", "c2pa_signature", "source_type", "generator")


def require_c2pa() -> None:
    """Make sure that manifests can be read.

    Raises:
        UnavailableError: c2pa-python is not installed.
    """
    try:
        import c2pa  # noqa: F401  # whether it is there
    except (ImportError, OSError) as error:
        raise UnavailableError(
            f"C2PA manifests cannot be read here ({error}); install c2pa-python, or lfm-deploy with its extra "
            "'provenance'"
        ) from None


def read_provenance(content: Path | bytes) -> Provenance:
    """What a picture says of its own origin; the network is never asked.

    Args:
        content: path of the file, or its bytes.
    """
    if not isinstance(content, bytes) and not is_regular(content):  # a pipe would be waited for
        return Provenance()
    try:
        held = content if isinstance(content, bytes) else content.read_bytes()
    except OSError:
        return Provenance()  # what cannot be read has a row with the reason
    texts = read_texts(held)
    form, software, comment, xmp = _read_head(held)
    source_type = _SOURCE_TYPE.search(xmp or texts.get("XML:com.adobe.xmp", b""))
    manifest = _read_manifest(held, form) if form is not None else {}
    return Provenance(
        c2pa=manifest.get("c2pa"),
        c2pa_signature=manifest.get("c2pa_signature"),
        source_type=manifest.get("source_type") or (source_type[1].decode() if source_type else None),
        generator=_name_generator(texts, software, comment),
    )


def _read_head(content: bytes) -> tuple[str | None, str, str, bytes]:
    """MIME type, software, the user's comment and XMP, as far as they are there."""
    form, software, comment, xmp = None, "", "", b""
    with suppress(Exception), open_file(content) as picture:
        form = _MIME_TYPES.get(picture.format or "")
        found = picture.info.get("xmp", b"")
        xmp = found if isinstance(found, bytes) else str(found).encode()
        if picture.format != "PNG" or "exif" in picture.info:
            exif = picture.getexif()
            software = str(exif.get(_EXIF_SOFTWARE, ""))
            raw = exif.get_ifd(_EXIF_IFD).get(_EXIF_COMMENT, b"")
            comment = raw[8:].decode("utf-16-be" if raw.startswith(b"UNICODE") else "utf-8", errors="replace")
    return form, software, comment, xmp


def _name_generator(texts: dict[str, bytes], software: str, comment: str) -> str | None:
    for keyword, name in _GENERATORS.items():
        if any(key.lower() == keyword for key in texts):
            return name
    said = " ".join([software, texts.get("Software", b"").decode(errors="replace")])
    if named := _NAMED.search(said):
        return named[0]
    return _GENERATORS["parameters"] if _PARAMETERS.search(comment) else None


def _read_manifest(content: bytes, form: str) -> dict[str, str]:
    """Columns of a C2PA manifest; nothing where there is none, or where it cannot be read here."""
    try:
        import c2pa
    except (ImportError, OSError):
        return {"c2pa_signature": "not read: c2pa-python is not installed"} if b"c2pa" in content else {}
    try:
        with c2pa.Reader(form, io.BytesIO(content), context=_make_context()) as reader:
            found: dict[str, Any] = json.loads(reader.json())
            state = str(reader.get_validation_state())
    except (c2pa.C2paError.ManifestNotFound, c2pa.C2paError.NotSupported):
        return {}
    except c2pa.C2paError as error:
        said = str(error)
        elsewhere = said.startswith("Remote:")
        return {"c2pa_signature": "not fetched: it lies elsewhere" if elsewhere else f"cannot be read: {said[:80]}"}
    active = found.get("manifests", {}).get(found.get("active_manifest"), {})
    return {"c2pa": _name_maker(active), "c2pa_signature": _describe_state(state, found)} | _find_source_type(active)


@cache
def _make_context() -> Any:
    """Settings of the reader: a picture must not make this machine ask another one."""
    import c2pa

    return c2pa.Context(c2pa.Settings.from_dict({"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}))


def _name_maker(manifest: dict[str, Any]) -> str:
    infos = manifest.get("claim_generator_info") or [{}]
    name = " ".join(str(infos[0][key]) for key in ("name", "version") if infos[0].get(key))
    signer = manifest.get("signature_info", {}).get("issuer")
    maker = name or str(manifest.get("claim_generator") or "unnamed")
    return f"{maker}, signed by {signer}" if signer else maker


def _describe_state(state: str, found: dict[str, Any]) -> str:
    if state in _SIGNATURES:
        return _SIGNATURES[state]
    failures = found.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
    codes = dict.fromkeys(str(one.get("code")) for one in failures if one.get("code") != "signingCredential.untrusted")
    return f"does not hold: {', '.join(codes) or state.lower()}"


def _find_source_type(manifest: dict[str, Any]) -> dict[str, str]:
    """The source type of the first action that has one."""
    for assertion in manifest.get("assertions", []):
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            for action in assertion.get("data", {}).get("actions", []):
                if found := action.get("digitalSourceType"):
                    return {"source_type": str(found).rsplit("/", 1)[-1]}
    return {}
