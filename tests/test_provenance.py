import datetime
import io
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from lfm_deploy.errors import UnavailableError
from lfm_deploy.pictures.png_texts import read_texts
from lfm_deploy.pictures.provenance import Provenance, read_provenance, require_c2pa

SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def save(form="PNG", **options):
    content = io.BytesIO()
    Image.fromarray(PIXELS).save(content, form, **options)
    return content.getvalue()


def with_text(keyword, text, **options):
    texts = PngImagePlugin.PngInfo()
    texts.add_text(keyword, text, **options)
    return save(pnginfo=texts)


def make_signer():
    """A signer with a root of its own, as nobody trusts it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    c2pa = pytest.importorskip("c2pa", reason="c2pa-python is not installed")
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)]) for name in ("Root", "Test signer")]
    chain = b""
    for own, is_root in ((1, False), (0, True)):
        usage = dict.fromkeys(
            ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"], False
        )
        usage |= {"digital_signature": not is_root, "key_cert_sign": is_root}
        usage |= {"encipher_only": False, "decipher_only": False}
        builder = (
            x509.CertificateBuilder(names[0], names[own], keys[own].public_key(), x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=36500))
            .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), critical=False)
            .add_extension(x509.KeyUsage(**usage), critical=True)
        )
        if not is_root:
            purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(purpose, critical=False)
        chain += builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    key = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return c2pa.Signer.from_info(
        c2pa.C2paSignerInfo(alg=c2pa.C2paSigningAlg.ES256, sign_cert=chain, private_key=key, ta_url=None)
    )


def sign(remote=None):
    """A JPEG with a manifest that says that a model made it; in it, or at an address."""
    signer = make_signer()
    import c2pa

    action = {"action": "c2pa.created", "digitalSourceType": f"{SOURCE}trainedAlgorithmicMedia"}
    manifest = {
        "claim_generator_info": [{"name": "A generator", "version": "3"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }
    content, builder = io.BytesIO(), c2pa.Builder(json.dumps(manifest))
    if remote is not None:
        builder.set_no_embed()
        builder.set_remote_url(remote)
    builder.sign(signer, "image/jpeg", io.BytesIO(save("JPEG")), content)
    return content.getvalue()


@pytest.fixture(scope="module")
def signed():
    return sign()


def test_a_manifest_whose_signature_holds(signed):
    assert read_provenance(signed) == Provenance(
        c2pa="A generator 3, signed by Test signer",
        c2pa_signature="holds, of an unknown signer",
        source_type="trainedAlgorithmicMedia",
    )


def test_a_manifest_over_other_pixels(signed):
    changed = bytearray(signed)
    changed[-30] ^= 1  # of the compressed pixels, which come last
    found = read_provenance(bytes(changed))
    assert found.c2pa_signature == "does not hold: assertion.dataHash.mismatch"
    assert found.c2pa == "A generator 3, signed by Test signer"


def test_a_manifest_elsewhere_is_not_fetched():
    asked = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self):  # its name in http.server
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            found = read_provenance(sign(f"http://127.0.0.1:{server.server_port}/manifest"))
        finally:
            server.shutdown()
    assert found == Provenance(c2pa_signature="not fetched: it lies elsewhere")
    assert not asked


def test_without_c2pa_a_manifest_is_not_taken_for_none(signed, monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    assert read_provenance(signed).c2pa_signature == "not read: c2pa-python is not installed"
    assert read_provenance(save("JPEG")) == Provenance()
    with pytest.raises(UnavailableError, match="extra 'provenance'"):
        require_c2pa()


@pytest.mark.parametrize(
    "xmp",
    [
        f'<rdf:Description Iptc4xmpExt:DigitalSourceType="{SOURCE}compositeWithTrainedAlgorithmicMedia"/>',
        f"<Iptc4xmpExt:DigitalSourceType>{SOURCE}compositeWithTrainedAlgorithmicMedia</Iptc4xmpExt:DigitalSourceType>",
        f'<Iptc4xmpExt:DigitalSourceType rdf:resource="{SOURCE}compositeWithTrainedAlgorithmicMedia"/>',
    ],
)
@pytest.mark.parametrize("form", ["JPEG", "WEBP", "PNG"])
def test_the_source_type_of_iptc(xmp, form):
    content = with_text("XML:com.adobe.xmp", xmp) if form == "PNG" else save(form, xmp=xmp.encode())
    assert read_provenance(content) == Provenance(source_type="compositeWithTrainedAlgorithmicMedia")


@pytest.mark.parametrize(
    ("content", "generator"),
    [
        (with_text("parameters", "a cat\nSteps: 20, Sampler: Euler"), "Stable Diffusion web UI"),
        (with_text("workflow", "{}" * 2_000_000, zip=True), "ComfyUI"),
        (with_text("invokeai_metadata", "{}"), "InvokeAI"),
        (with_text("Software", "NovelAI"), "NovelAI"),
        (with_text("Software", "GIMP"), None),
        (save(), None),
    ],
)
def test_generators_by_their_texts(content, generator):
    assert read_provenance(content).generator == generator


def test_parameters_in_the_comment_of_a_jpeg():
    exif = Image.Exif()
    exif.get_ifd(0x8769)[37510] = b"UNICODE\0" + "a cat\nSteps: 20, Sampler: Euler a".encode("utf-16-be")
    assert read_provenance(save("JPEG", exif=exif)).generator == "Stable Diffusion web UI"


def test_texts_are_cut_and_damage_is_none():
    assert len(read_texts(with_text("workflow", "x" * 2_000_000, zip=True))["workflow"]) == 1 << 16
    assert read_texts(with_text("a", "b", zip=True)[:40]) == {}
    assert read_texts(b"no PNG") == {}
    assert read_provenance(b"no picture") == Provenance()
