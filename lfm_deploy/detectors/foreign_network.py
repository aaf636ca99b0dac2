"""Does a foreign network take what its TOML file says? Names, types and shapes, before any picture is read."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lfm_deploy.detectors.detector_contract import DetectorContract
from lfm_deploy.errors import DetectorError
from lfm_deploy.storage.atomic import sha256_of_bytes, sha256_of_file

if TYPE_CHECKING:
    from onnx import GraphProto, TensorProto

_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
_ANSWERS = ("tensor(float)", "tensor(float16)", "tensor(double)")


def check_input(session: Any, contract: DetectorContract) -> tuple[str, int | None]:
    """The name of the network's input, and its batch size where that is fixed.

    Args:
        session: ``onnxruntime.InferenceSession`` of the network.
        contract: contract of the detector.

    Raises:
        DetectorError: the contract names another input, or another type, layout or size than the network has.
    """
    wanted = contract.input
    found = _choose(session.get_inputs(), wanted.name, "input", contract)
    if len(session.get_inputs()) > 1:
        others = ", ".join(one.name for one in session.get_inputs() if one is not found)
        _refuse(
            contract, "[input] name", f"is not all that the network takes: it also has {others}, expected one input"
        )
    if _TYPES.get(found.type) != wanted.dtype:
        taken = _TYPES.get(found.type, found.type)
        _refuse(contract, "[input] dtype", f"is {wanted.dtype!r}, the network's input {found.name} is {taken}")
    shape = _known(found.shape)
    written = f"the network's input {found.name} is {tuple(found.shape)}"
    channel = 1 if wanted.layout == "NCHW" else 3
    if len(shape) != 4 or shape[channel] not in (3, None):
        _refuse(contract, "[input] layout", f"is {wanted.layout!r}, {written}, expected three channels there")
    sides = [shape[axis] for axis in (1, 2, 3) if axis != channel]
    if wanted.side is not None and any(side not in (wanted.side, None) for side in sides):
        key = "crop" if wanted.crop else "resize"
        _refuse(contract, f"[input] {key}", f"makes pictures {wanted.side}x{wanted.side}, {written}")
    if wanted.side is None and any(side is not None for side in sides):
        _refuse(contract, "[input] fit", f"is {wanted.fit!r} without a crop, so that sizes differ, and {written}")
    return str(found.name), shape[0]


def check_output(session: Any, contract: DetectorContract) -> str:
    """The name of the network's output.

    Args:
        session: ``onnxruntime.InferenceSession`` of the network.
        contract: contract of the detector.

    Raises:
        DetectorError: the contract names another output, or its meaning has more or fewer values than the output.
    """
    found = _choose(session.get_outputs(), contract.output.name, "output", contract)
    if found.type not in _ANSWERS:
        _refuse(contract, "[output] name", f"leads to {found.name}, which is {found.type}, expected a float tensor")
    values = 1
    for size in _known(found.shape)[1:]:
        if size is None:
            return str(found.name)  # known only when it runs; every answer is checked again
        values *= size
    if len(found.shape) > 1 and values != contract.output.meaning.columns:
        meaning = contract.output.meaning
        _refuse(
            contract,
            "[output] meaning",
            f"is '{meaning}', {meaning.columns} a picture, the network's output {found.name} is {tuple(found.shape)}",
        )
    return str(found.name)


def hash_network(path: Path) -> str:
    """Hex digest (sha256) of a network's file, and of the files that hold its weights where they lie outside.

    Args:
        path: path of an ONNX file that ONNX Runtime could load.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    outside = sorted({_location(tensor) for tensor in _walk_tensors(model.graph)} - {""})
    if not outside:
        return sha256_of_file(path)
    hashes = [sha256_of_file(path), *(sha256_of_file(path.parent / location) for location in outside)]
    return sha256_of_bytes("\n".join(hashes).encode())


def _choose(found: list[Any], name: str | None, kind: str, contract: DetectorContract) -> Any:
    names = ", ".join(one.name for one in found)
    if name is None:
        if len(found) != 1:
            _refuse(contract, f"[{kind}] name", f"is missing, and the network has {len(found)} {kind}s: {names}")
        return found[0]
    chosen = [one for one in found if one.name == name]
    if not chosen:
        _refuse(contract, f"[{kind}] name", f"is {name!r}, the network has {names}")
    return chosen[0]


def _known(shape: list[Any]) -> list[int | None]:
    """Sizes that are fixed; others have a name, or none."""
    return [size if isinstance(size, int) and size > 0 else None for size in shape]


def _refuse(contract: DetectorContract, key: str, why: str) -> NoReturn:
    raise DetectorError(f"{contract.path}: {key} {why} ({contract.onnx.name})")


def _walk_tensors(graph: "GraphProto") -> Iterator["TensorProto"]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from [attribute.t, *attribute.tensors]
            for inner in [attribute.g, *attribute.graphs]:
                yield from _walk_tensors(inner)


def _location(tensor: "TensorProto") -> str:
    """The file that a tensor's values lie in; empty where that is the network's own."""
    return next((str(entry.value) for entry in tensor.external_data if entry.key == "location"), "")
