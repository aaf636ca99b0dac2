"""The Open Inference Protocol, version 2: pixels in, logits out, as JSON or with the binary extension.

A request is a JSON header, and behind it, where ``Inference-Header-Content-Length`` says how long the header is, the
bytes of tensors in their order. ``image`` is uint8 ``(N, H, W, 3)`` as the contract says, ``logit`` float32 ``(N, 1)``:
the names and shapes that the models of ``lfm-deploy triton`` have.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.engine import Engine, check_images
from lfm_deploy.contract import Contract
from lfm_deploy.errors import ShapeError
from lfm_deploy.serving.refusals import Reason, RefusalError

MODEL = "lfm"
VERSION = "1"
HEADER_LENGTH = "Inference-Header-Content-Length"
_INPUT, _OUTPUT = "image", "logit"
_EXTENSIONS = ["binary_tensor_data", "model_configuration"]


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What a client asks.

    Attributes:
        images: pictures, uint8 ``(N, H, W, 3)``.
        name: identifier that the client gave the request; empty for none.
        binary: whether the logits are wanted as bytes behind the JSON.
    """

    images: NDArray[np.uint8]
    name: str
    binary: bool


def describe_server(version: str) -> dict[str, Any]:
    """Metadata of the server."""
    return {"name": "lfm-deploy", "version": version, "extensions": _EXTENSIONS}


def describe_model(contract: Contract, provenance: dict[str, Any]) -> dict[str, Any]:
    """Metadata of the model.

    Args:
        contract: contract of the engine.
        provenance: engine and contract with their hashes.
    """
    return {
        "name": MODEL,
        "versions": [VERSION],
        "platform": f"lfm-deploy {provenance['engine']['runtime']}",
        "inputs": [{"name": _INPUT, "datatype": "UINT8", "shape": [-1, *_picture_shape(contract)]}],
        "outputs": [{"name": _OUTPUT, "datatype": "FP32", "shape": [-1, 1]}],
        "parameters": provenance,
    }


def describe_configuration(contract: Contract, batch: int) -> dict[str, Any]:
    """The model as Triton's clients ask for its configuration.

    Args:
        contract: contract of the engine.
        batch: number of pictures in a batch at most.
    """
    shape = [str(length) for length in _picture_shape(contract)]
    return {
        "name": MODEL,
        "platform": "lfm-deploy",
        "backend": "lfm-deploy",
        "max_batch_size": batch,
        "input": [{"name": _INPUT, "data_type": "TYPE_UINT8", "dims": shape}],
        "output": [{"name": _OUTPUT, "data_type": "TYPE_FP32", "dims": ["1"]}],
        "dynamic_batching": {},
    }


def read_request(body: bytes, header_length: str | None, engine: Engine) -> InferRequest:
    """Read and check a request; shapes are checked before anything is built from its data.

    Args:
        body: body of the request.
        header_length: value of ``Inference-Header-Content-Length``; None where all is JSON.
        engine: engine that says which pictures it takes.

    Raises:
        RefusalError: the request is not what the protocol or the contract says.
    """
    length = len(body) if header_length is None else _as_length(header_length, len(body))
    try:
        values = json.loads(body[:length])
    except (ValueError, RecursionError):
        raise _refuse("the request's header is no JSON") from None
    if not isinstance(values, dict) or not isinstance(inputs := values.get("inputs"), list) or len(inputs) != 1:
        raise _refuse(f"expected one input, {_INPUT!r}, in 'inputs'")
    tensor = inputs[0]
    if not isinstance(tensor, dict) or tensor.get("name") != _INPUT or tensor.get("datatype") != "UINT8":
        raise _refuse(f"expected an input called {_INPUT!r} of datatype UINT8")
    shape = _as_shape(tensor.get("shape"), engine)
    parameters = tensor.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    images = _read_json(tensor.get("data"), shape) if size is None else _read_bytes(body[length:], size, shape)
    name = values.get("id", "")
    return InferRequest(images, name if isinstance(name, str) else "", _wants_bytes(values))


def write_answer(request: InferRequest, logits: NDArray[np.float32]) -> tuple[bytes, dict[str, str]]:
    """The answer's body and headers.

    Args:
        request: request that is answered.
        logits: logits of its pictures, float32 ``(N,)``.
    """
    tensor: dict[str, Any] = {"name": _OUTPUT, "datatype": "FP32", "shape": [len(logits), 1]}
    values: dict[str, Any] = {"model_name": MODEL, "model_version": VERSION, "outputs": [tensor]}
    if request.name:
        values["id"] = request.name
    if not request.binary:
        # The shortest digits that stand for this float32 value alone, as in the rows of predict.
        tensor["data"] = [float(str(logit)) for logit in logits]
        return json.dumps(values, allow_nan=False).encode(), {"Content-Type": "application/json"}
    content = logits.astype("<f4").tobytes()
    tensor["parameters"] = {"binary_data_size": len(content)}
    header = json.dumps(values).encode()
    return header + content, {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))}


def _refuse(message: str) -> RefusalError:
    return RefusalError(Reason.BAD_REQUEST, message)


def _picture_shape(contract: Contract) -> list[int]:
    return [-1, -1, 3] if contract.size == "native" else [contract.size, contract.size, 3]


def _as_length(text: str, whole: int) -> int:
    if not text.isdecimal() or len(text) > 12 or int(text) > whole:
        raise _refuse(f"{HEADER_LENGTH} is {text[:20]!r}, expected a number of bytes up to {whole}")
    return int(text)


def _as_shape(shape: Any, engine: Engine) -> tuple[int, ...]:
    if not isinstance(shape, list) or not all(type(side) is int and 0 <= side < 1 << 31 for side in shape):
        raise _refuse("the input's shape is no list of sizes")
    try:
        check_images(shape, "uint8", engine.contract, engine.config, MODEL)
    except ShapeError as error:
        raise _refuse(str(error).partition(";")[0]) from None
    return tuple(shape)


def _read_bytes(content: bytes, size: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if size != math.prod(shape) or len(content) != size:
        raise _refuse(f"{len(content)} bytes, and {size} announced, where the shape needs {math.prod(shape)}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_json(data: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Flat or nested; numbers that are no byte are refused, never wrapped or rounded."""
    if not isinstance(data, list):
        raise _refuse("the input has neither 'data' nor 'binary_data_size'")
    try:
        values = np.array(data)
    except ValueError:
        raise _refuse("the input's data is ragged") from None
    if values.dtype.kind not in "iu" or values.size != math.prod(shape) or values.ndim not in (1, len(shape)):
        raise _refuse(f"the input's data is not {math.prod(shape)} whole numbers, flat or in the shape {list(shape)}")
    if values.min() < 0 or values.max() > 255:
        raise _refuse("the input's data has numbers outside of 0 to 255")
    return values.astype(np.uint8).reshape(shape)


def _wants_bytes(values: dict[str, Any]) -> bool:
    outputs = values.get("outputs")
    if not outputs:
        parameters = values.get("parameters")
        return isinstance(parameters, dict) and parameters.get("binary_data_output") is True
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise _refuse("'outputs' is no list of outputs")
    if any(output.get("name") != _OUTPUT for output in outputs):
        raise _refuse(f"there is one output, {_OUTPUT!r}")
    parameters = outputs[0].get("parameters")
    return isinstance(parameters, dict) and parameters.get("binary_data") is True
