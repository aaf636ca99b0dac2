"""Golden pictures: a few files that travel with a deployment, and the logits that the checkpoint gives for them.

``golden.zip`` holds whole files, PNG and JPEG, and none of the size that the network takes: who gives their logits
again has decoded, resized and judged as the checkpoint in PyTorch did where the deployment was made.
"""

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfm_deploy.artifacts import Precision
from lfm_deploy.contract import SizePolicy
from lfm_deploy.errors import ArtifactError, GateError
from lfm_deploy.pictures.decoding import decode_picture
from lfm_deploy.pictures.photographs import cut_tiles, load_photographs

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
        {"file": name, "sha256": hashlib.sha256(content).hexdigest(), "logit": float(logit), "terms": float(term)}
        for (name, content), logit, term in zip(files.items(), logits, terms, strict=True)
    ]
    index_values = {
        "format": _FORMAT,
        "checkpoint_sha256": checkpoint.sha256,
        "size": size,
        "pictures": pictures,
    }
    files[_INDEX] = (json.dumps(index_values, indent=2) + "\n").encode()
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
    if not path.is_file():
        raise ArtifactError(
            f"{path}: no such file, and its pictures show whether an engine is the one it says; {remedy}"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            index = json.loads(archive.read(_INDEX))
            if index["format"] != _FORMAT:
                raise ArtifactError(f"{path}: of another version ({index['format']}); {remedy}")
            pictures = []
            for entry in index["pictures"]:
                content = archive.read(entry["file"])
                if hashlib.sha256(content).hexdigest() != entry["sha256"]:
                    raise ArtifactError(f"{path}: {entry['file']} was changed; {remedy}")
                logit, terms = float(entry["logit"]), float(entry["terms"])
                pictures.append(GoldenPicture(name=entry["file"], content=content, logit=logit, terms=terms))
        if not pictures:
            raise ArtifactError(f"{path}: holds no picture; {remedy}")
        return Golden(checkpoint_sha256=str(index["checkpoint_sha256"]), size=index["size"], pictures=tuple(pictures))
    except (zipfile.BadZipFile, OSError, KeyError, ValueError, TypeError, EOFError, NotImplementedError) as error:
        raise ArtifactError(f"{path}: damaged ({type(error).__name__}); {remedy}") from None


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
