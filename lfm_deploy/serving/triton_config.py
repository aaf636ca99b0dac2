"""Configurations of the models that Triton Inference Server loads: what goes in and out, batches, queue, warm-up."""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from lfm_deploy.artifacts import GraphInfo
from lfm_deploy.contract import Contract
from lfm_deploy.engine_info import EngineInfo
from lfm_deploy.quantisation import Recipe

ONNX_MODEL, TENSORRT_MODEL, JPEG_MODEL = "lfm_onnx", "lfm_trt", "lfm_jpeg"
WARM_UP_FILE = "golden"
_MOST_WAITING = 1024
_LONGEST_WAIT_US = 30_000_000
_JPEG_BATCH = 64


class _Type(StrEnum):
    UINT8 = "TYPE_UINT8"
    INT32 = "TYPE_INT32"
    FP32 = "TYPE_FP32"
    STRING = "TYPE_STRING"


class _Kind(StrEnum):
    AUTO = "KIND_AUTO"
    CPU = "KIND_CPU"
    GPU = "KIND_GPU"


class _Action(StrEnum):
    REJECT = "REJECT"


def configure_onnx(info: GraphInfo, batches: Sequence[int], warm_up_shape: Sequence[int]) -> dict[str, Any]:
    """The model of a graph in ONNX Runtime, on a GPU where there is one.

    Args:
        info: contract and provenance of the graph.
        batches: preferred sizes of batches, the largest last, which is the most that there may be.
        warm_up_shape: height, width and channels of the picture in the file for the warm-up.
    """
    on_cpu = info.quantisation is not None and info.quantisation.recipe is Recipe.CPU
    return _common(ONNX_MODEL, "onnxruntime", info, batches, warm_up_shape) | {
        "default_model_filename": "model.onnx",
        "instance_group": [{"count": 1, "kind": _Kind.CPU if on_cpu else _Kind.AUTO}],
    }


def configure_tensorrt(
    info: EngineInfo, plans: Mapping[str, str], batches: Sequence[int], warm_up_shape: Sequence[int]
) -> dict[str, Any]:
    """The model of TensorRT plans, one for each kind of card.

    Args:
        info: sidecar of one of the plans.
        plans: name of the plan's file by compute capability, such as ``"8.6"``.
        batches: preferred sizes of batches, the largest last, which is the most that there may be.
        warm_up_shape: height, width and channels of the picture in the file for the warm-up.
    """
    config = _common(TENSORRT_MODEL, "tensorrt", info, batches, warm_up_shape) | {
        "cc_model_filenames": [{"key": capability, "value": name} for capability, name in plans.items()],
        # Two, so that one copies while the other computes.
        "instance_group": [{"count": 2, "kind": _Kind.GPU}],
    }
    if info.contract.size != "native":
        # Of exact sizes alone: a graph that stands for smaller batches too would compute what nobody asked for.
        shape = {"key": "image", "value": {"dim": _dims(info.contract)}}
        graphs = [{"batch_size": size, "input": [shape]} for size in sorted({1, *batches})]
        config["optimization"] = {"cuda": {"graphs": True, "graph_spec": graphs, "output_copy_stream": True}}
    return config


def configure_jpeg(info: GraphInfo) -> dict[str, Any]:
    """The model that takes files: it decodes as the contract says and gives the rows of ``predict``.

    It warms up by itself, with golden pictures whose logits it compares.

    Args:
        info: contract and provenance of the graph that it runs.
    """
    text = {"data_type": _Type.STRING, "dims": [1]}
    return {
        "name": JPEG_MODEL,
        "backend": "python",
        "max_batch_size": _JPEG_BATCH,
        "input": [{"name": "picture"} | text, {"name": "name"} | text | {"optional": True}],
        "output": [
            {"name": "row"} | text,
            {"name": "verdict"} | text,
            {"name": "logit", "data_type": _Type.FP32, "dims": [1]},
        ],
        "dynamic_batching": _batching([8, _JPEG_BATCH], delay_us=2000),
        "instance_group": [{"count": 1, "kind": _Kind.CPU}],
        "parameters": _parameters(info),
    }


def _common(
    name: str, backend: str, info: GraphInfo | EngineInfo, batches: Sequence[int], warm_up_shape: Sequence[int]
) -> dict[str, Any]:
    dims = _dims(info.contract)
    # A picture's logit has no dimension of its own, and Triton wants one: [1] for clients, none for the graph.
    outputs: list[dict[str, Any]] = [
        {"name": "logit", "data_type": _Type.FP32, "dims": [1], "reshape": {"shape": []}},
    ]
    if info.evidence:
        selected = [info.config.channels, info.config.k]
        outputs.append({"name": "evidence_values", "data_type": _Type.FP32, "dims": selected})
        outputs.append({"name": "evidence_positions", "data_type": _Type.INT32, "dims": selected})
    sample = {"data_type": _Type.UINT8, "dims": list(warm_up_shape), "input_data_file": WARM_UP_FILE}
    return {
        "name": name,
        "backend": backend,
        "max_batch_size": batches[-1],
        "input": [{"name": "image", "data_type": _Type.UINT8, "dims": dims}],
        "output": outputs,
        "dynamic_batching": _batching(batches, delay_us=2000),
        "model_warmup": [
            {"name": f"batch of {size}", "batch_size": size, "inputs": [{"key": "image", "value": sample}]}
            for size in sorted({1, batches[-1]})
        ],
        "parameters": _parameters(info),
    }


def _dims(contract: Contract) -> list[int]:
    return [-1, -1, 3] if contract.size == "native" else [contract.size, contract.size, 3]


def _batching(batches: Sequence[int], *, delay_us: int) -> dict[str, Any]:
    return {
        "preferred_batch_size": list(batches),
        "max_queue_delay_microseconds": delay_us,
        "default_queue_policy": {
            "timeout_action": _Action.REJECT,
            "default_timeout_microseconds": _LONGEST_WAIT_US,
            "max_queue_size": _MOST_WAITING,
        },
    }


def _parameters(info: GraphInfo | EngineInfo) -> list[dict[str, Any]]:
    values = {
        "lfm_contract": json.dumps(info.contract.as_dict(), sort_keys=True),
        "lfm_checkpoint_sha256": info.checkpoint_sha256,
        "lfm_precision": str(info.precision),
    }
    return [{"key": key, "value": {"string_value": value}} for key, value in values.items()]
