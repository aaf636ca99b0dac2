"""Golden pictures: a few files that travel with a deployment, and the logits that the checkpoint gives for them.

``golden.zip`` holds whole files, PNG and JPEG, and none of the size that the network takes: who gives their logits
again has decoded, resized and judged as the checkpoint in PyTorch did where the deployment was made.
"""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from PIL import Image

from lfm_deploy.artifacts import Precision
from lfm_deploy.contract import SizePolicy
from lfm_deploy.errors import GateError, first_line
from lfm_deploy.pictures.decoding import decode_picture
from lfm_deploy.pictures.members import DAMAGE
from lfm_deploy.pictures.photographs import cut_tiles, load_photographs
from lfm_deploy.storage.atomic import sha256_of_bytes
from lfm_deploy.storage.sealed_values import seal_values, take_seal
from lfm_deploy.storage.values import NotNegative, Reader, Sha256

if TYPE_CHECKING:
    from lfm_deploy.network.checkpoint import Checkpoint  # loads PyTorch, which a service does without

_FORMAT = "lfm-deploy golden 1"
_INDEX = "golden.json"
_HEIGHT, _WIDTH = 240, 320
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first moment that zip knows: equal pictures make equal files

# How far a logit may be from the stored one, as a share of the sum of the sizes of the terms that make it up, which is
# what rounding errors grow with (260 for the published checkpoint). Float32: ten times what export allows on a CPU,
# since GPUs add in yet another order; one grey level of another decoder moves logits by a hundred times that. Float16:
# as export allows. INT8: calibrated layers miss by 0.01 on average, a tool's defaults by 0.12.
_SHARES: dict[str, float] = {Precision.FP32: 1e-4, Precision.FP16: 2e-3, Precision.INT8: 0.05}


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenPicture:
    """One picture with what the checkpoint says of it.

    Attributes:
        name: name of the file in the archive.
        content: bytes of the file.
        logit: logit of the checkpoint in PyTorch, float32.
        terms: sum of the sizes of the terms that make up the logit.
    """

    name: str
    content: bytes
    logit: float
    terms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Golden pictures of a deployment.

    Attributes:
        checkpoint_sha256: SHA-256 of the checkpoint that gave the logits.
        size: side in pixels that the pictures were resized to, or ``"native"``.
        pictures: pictures with their logits.
    """

    checkpoint_sha256: str
    size: SizePolicy
    pictures: tuple[GoldenPicture, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    file: str
    sha256: Sha256
    logit: float
    terms: NotNegative


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    checkpoint_sha256: Sha256
    size: SizePolicy
    pictures: Annotated[tuple[_Entry, ...], Meta(min_length=1)]


def make_golden(checkpoint: "Checkpoint", size: SizePolicy) -> bytes:
    """The archive of a checkpoint: two PNG and two JPEG files, cut out of photographs that ship in scikit-learn.

    Args:
        checkpoint: checkpoint that is deployed.
        size: size policy of the deployment.

    Returns:
        bytes of ``golden.zip``, the same for the same arguments and encoders.
    """
    files = {}
    for index, photograph in enumerate(load_photographs()):
        for tile, (form, options) in zip(cut_tiles(photograph, _HEIGHT, _WIDTH, 2), _ENCODINGS.items(), strict=True):
            buffer = io.BytesIO()
            Image.fromarray(tile).save(buffer, form, **options)
            files[f"{form.lower()}{index}.{form.lower()}"] = buffer.getvalue()
    images = np.stack([decode_picture(content, size, checkpoint.config) for content in files.values()])
    logits, terms = _judge(checkpoint, images)
    pictures = [
        {"file": name, "sha256": sha256_of_bytes(content), "logit": float(logit), "terms": float(term)}
        for (name, content), logit, term in zip(files.items(), logits, terms, strict=True)
    ]
    index_values = {
        "format": _FORMAT,
        "checkpoint_sha256": checkpoint.sha256,
        "size": size,
        "pictures": pictures,
    }
    files[_INDEX] = (json.dumps(seal_values(index_values), indent=2, allow_nan=False) + "\n").encode()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for name, content in files.items():
            opened.writestr(zipfile.ZipInfo(name, _LONG_AGO), content)
    return archive.getvalue()


_ENCODINGS: dict[str, dict[str, Any]] = {"PNG": {}, "JPEG": {"quality": 95, "subsampling": "4:2:0"}}


def read_golden(path: Path) -> Golden:
    """Read what ``make_golden`` made.

    Args:
        path: path of ``golden.zip``.

    Raises:
        ArtifactError: the file is missing, damaged or of another version.
    """
    remedy = f"make it with 'lfm-deploy export CHECKPOINT.pth --workdir {path.parent}'"
    reader = Reader(where=str(path), remedy=remedy)
    if not path.is_file():
        reader.refuse("no such file, and its pictures show whether an engine is the one it says")
    try:
        with zipfile.ZipFile(path) as archive:
            index = _read_index(archive.read(_INDEX), reader)
            contents = [archive.read(entry.file) for entry in index.pictures]
    except (*DAMAGE, KeyError) as error:
        reader.refuse(f"damaged ({first_line(error)})")
    for entry, content in zip(index.pictures, contents, strict=True):
        if sha256_of_bytes(content) != entry.sha256:
            reader.refuse(f"{entry.file} was changed")
    pictures = [
        GoldenPicture(name=entry.file, content=content, logit=entry.logit, terms=entry.terms)
        for entry, content in zip(index.pictures, contents, strict=True)
    ]
    return Golden(checkpoint_sha256=index.checkpoint_sha256, size=index.size, pictures=tuple(pictures))


def _read_index(content: bytes, reader: Reader) -> _Index:
    try:
        values = reader.parse_json(content.decode())
    except UnicodeDecodeError:
        reader.refuse(f"{_INDEX} is no text")
    if isinstance(values, dict) and values.get("format") == _FORMAT:
        take_seal(values, reader)
    reader.take_format(values, _FORMAT)
    return reader.convert(values, _Index)


def check_logit(picture: GoldenPicture, logit: float, precision: str, where: str) -> None:
    """Refuse an engine that gives another logit than the stored one.

    Args:
        picture: picture with the stored logit.
        logit: logit that was found.
        precision: precision of the engine; one that is not known is held to what FP16 is held to.
        where: name of the engine, for the message.

    Raises:
        GateError: the logit is further from the stored one than rounding explains.
    """
    allowed = _SHARES.get(precision, _SHARES[Precision.FP16]) * picture.terms
    # Written so that NaN fails.
    if not abs(logit - picture.logit) <= allowed:
        raise GateError(
            f"{where}: gives {logit:.4f} for the golden picture {picture.name}, expected {picture.logit:.4f} "
            f"within {allowed:.2g}: engine, decoder or resize is not what was exported; run 'lfm-deploy inspect', and "
            "export or build again"
        )


def _judge(checkpoint: "Checkpoint", images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits ``(N,)`` of the published forward pass, and for each the sum of the sizes of its terms ``(N,)``."""
    import torch

    from lfm_deploy.network.model import normalise

    network = checkpoint.build_model()
    with torch.inference_mode():
        features = network.features(normalise(torch.from_numpy(images)))
        terms = features * network.fc.weight
        return network.fc(features).squeeze(1).numpy(), terms.abs().sum(dim=1).numpy()
