"""What an ONNX file says of itself, read without loading ``onnx``: its metadata, and a check sum of all that is in it.

One flipped bit in a weight is damage, not a verdict. The seal is a metadata entry of 64 hex digits: the SHA-256 of the
file with these digits set to 0. Nothing has to be parsed to check it, which takes milliseconds.
"""

import hashlib
from functools import cache
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


def read_metadata(content: bytes) -> dict[str, str]:
    """The metadata of an ONNX file; the graph in it is passed over.

    Importing ``onnx`` takes four times as long, which every command that looks at a graph would wait for.

    Raises:
        DecodeError: the file is not a whole ONNX model.
        ValueError: a text in it is no UTF-8.
    """
    message = _metadata_class()()
    message.ParseFromString(content)
    # protobuf leaves a text that is no UTF-8 as bytes.
    return {_text(entry.key): _text(entry.value) for entry in message.metadata_props}


def _text(found: str | bytes) -> str:
    return found.decode() if isinstance(found, bytes) else found


def hash_network(content: bytes) -> str:
    """SHA-256 of an ONNX file without its metadata, in hex: all that its output depends on.

    Args:
        content: bytes of a whole ONNX file.

    Raises:
        DecodeError: the file is not a whole ONNX model.
    """
    message = _metadata_class()()
    message.ParseFromString(content)
    message.ClearField("metadata_props")
    return hashlib.sha256(message.SerializeToString(deterministic=True)).hexdigest()  # with the fields it doesn't know


@cache
def _metadata_class() -> Any:
    """The message ``ModelProto`` of onnx.proto with nothing but ``metadata_props``."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="lfm_deploy_metadata.proto", package="lfm_deploy", syntax="proto2")
    entry = file.message_type.add(name="Entry")
    for number, name in enumerate(("key", "value"), 1):
        entry.field.add(name=name, number=number, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    file.message_type.add(name="Model").field.add(
        name="metadata_props",
        number=14,
        type=kinds.TYPE_MESSAGE,
        type_name=".lfm_deploy.Entry",
        label=kinds.LABEL_REPEATED,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("lfm_deploy.Model"))
