"""A check sum of everything in an ONNX file, inside the file: one flipped bit in a weight is damage, not a verdict.

The seal is a metadata entry of 64 hex digits: the SHA-256 of the file with these digits set to 0. Nothing has to be
parsed to check it, which takes milliseconds.
"""

import hashlib
from typing import Any

SEAL_KEY = "lfm_deploy_sha256"
_BLANK = b"0" * 64
# The entry as protobuf writes it: the key, then field 2, of 64 bytes.
_PLACE = SEAL_KEY.encode() + b"\x12\x40"


def seal_graph(model: Any) -> bytes:
    """The bytes of a graph with its seal.

    Args:
        model: an ``onnx.ModelProto``; its metadata gets the seal, an old one is replaced.
    """
    others = [entry for entry in model.metadata_props if entry.key != SEAL_KEY]
    kept = [(entry.key, entry.value) for entry in others]
    del model.metadata_props[:]
    for key, value in [*kept, (SEAL_KEY, _BLANK.decode())]:
        model.metadata_props.add(key=key, value=value)
    content: bytes = model.SerializeToString(deterministic=True)
    start = _find(content)
    digest = hashlib.sha256(content).hexdigest()
    model.metadata_props[-1].value = digest
    return content[:start] + digest.encode() + content[start + len(_BLANK) :]


def is_sealed(content: bytes) -> bool:
    """Whether the bytes of a graph have a seal, broken or not."""
    return content.rfind(_PLACE) >= 0


def holds_seal(content: bytes) -> bool:
    """Whether the bytes of a sealed graph are those that were sealed."""
    start = _find(content)
    end = start + len(_BLANK)
    digest = hashlib.sha256(content[:start])
    digest.update(_BLANK)
    digest.update(memoryview(content)[end:])
    return content[start:end] == digest.hexdigest().encode()


def _find(content: bytes) -> int:
    return content.rfind(_PLACE) + len(_PLACE)
