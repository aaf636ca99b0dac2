"""The fastest that a machine could do a graph's work, from ceilings that were measured on it.

    time of a run >= max(sum over precisions of operations / operations per second, bytes / bytes per second)

A multiply-add is two operations. The bytes are those that have to move whatever the kernels: pixels in, weights once,
logits out. Nothing can be faster; a share above 100 % says that a ceiling was measured lower than the machine can do.

What a layer hands to the next one need not go through memory: caches keep it, and kernels that do two steps in one
never write it. How fast a run could be if all of it did is a figure of its own, no limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lfm_deploy.deployment.graph_work import Work

BANDWIDTH = "bandwidth"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The roofline of one point.

    Attributes:
        fps: pictures per second that the ceilings allow.
        bound: lower of the two ceilings: ``"compute"`` or ``"bandwidth"``.
        unfused_fps: pictures per second that memory allows if every layer reads and writes it.
    """

    fps: float
    bound: str
    unfused_fps: float


def choose_kernels(runtime: str, device: str, precision: str, recipe: str | None) -> tuple[dict[str, str], str | None]:
    """In which arithmetic a runtime runs a graph.

    Args:
        runtime: name of the engine's runtime, such as ``"onnxruntime"``.
        device: ``"cpu"`` or ``"cuda:N"``.
        precision: precision that the engine states.
        recipe: recipe of an INT8 graph, ``"tensorrt"`` or ``"cpu"``; None for others.

    Returns:
        Replacements for the precisions that the graph asks for, and the reason where they change what it is called.
    """
    if precision == "bf16":
        return {"fp32": "bf16", "fp16": "bf16"}, None
    on_cpu = device == "cpu"
    if runtime == "onnxruntime" and recipe is not None and not (on_cpu and recipe == "cpu"):
        if on_cpu:
            return {"int8": "fp32", "fp16": "fp32"}, "ONNX Runtime runs this recipe in float32 kernels on a CPU"
        return {"int8": "fp32" if recipe == "cpu" else "fp16"}, "ONNX Runtime runs Q/DQ in floating point on CUDA"
    if on_cpu:
        reason = "float16 graphs run in float32 kernels on a CPU" if precision == "fp16" else None
        return {"fp16": "fp32"}, reason
    return {}, None


def find_limit(work: Work, ceilings: Mapping[str, float], batch: int) -> Limit | str:
    """The roofline of one run, or the reason why there is none.

    Args:
        work: work of the run, in the kernels that it uses.
        ceilings: operations per second by precision, and bytes per second as ``"bandwidth"``.
        batch: number of pictures in a run.
    """
    missing = [name for name in (*sorted(work.multiply_adds), BANDWIDTH) if name not in ceilings]
    if missing:
        return f"no ceiling was measured for {', '.join(missing)}"
    compute = sum(2 * count / ceilings[precision] for precision, count in work.multiply_adds.items())
    memory = work.least_bytes / ceilings[BANDWIDTH]
    return Limit(
        fps=batch / max(compute, memory),
        bound="compute" if compute >= memory else BANDWIDTH,
        unfused_fps=batch * ceilings[BANDWIDTH] / work.traffic_bytes,
    )
