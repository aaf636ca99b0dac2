"""The forms in which tensorrt-rtx is given a graph: as it was exported, and rewritten so that its kernels move less.

Both compute the same. That is proved in ONNX Runtime on photographs before a rewritten form is built, and which of the
two becomes the engine is decided by the kernels that the library made of each.
"""

import functools
import logging

import numpy as np
import onnx
from numpy.typing import NDArray

from engines.cards import cards_of
from export.late_scales import delay_scales
from export.summed_stage import can_sum, sum_first_stage
from lfm_deploy.kernels import Kernel, count_bytes
from lfm_deploy.pictures.photographs import sample_tiles

EXPORTED, REWRITTEN = "exported", "rewritten"
_TILES = 4
# Of the largest logit. Sums of float16 in another order were seen to move logits by 5e-5 of it; the codes of INT8
# that such a sum decides, by 2e-3. A stage that is wrong moves them by more than 1e-1.
_TOLERANCE = 1e-2
_log = logging.getLogger("lfm_deploy")


def list_forms(content: bytes) -> dict[str, bytes]:
    """The forms of a graph that can be built, as it was exported first.

    Args:
        content: typed ONNX file, for pictures of one size where there is to be more than one form.

    Returns:
        Graphs by ``"exported"`` and, where there is a form that moves less, ``"rewritten"``.
    """
    rewritten = _rewrite(content)
    return {EXPORTED: content} | ({} if rewritten is None else {REWRITTEN: rewritten})


def is_better(kernels: tuple[Kernel, ...] | None, other: tuple[Kernel, ...] | None, gpu: str, batch: int) -> bool:
    """Whether an engine with these kernels is faster at best than another one; False where one has no list.

    Args:
        kernels: kernels of the engine in question.
        other: kernels of the engine to beat.
        gpu: compute capability, whose first card decides; where no card is known, what moves less is better.
        batch: pictures in a run.
    """
    if kernels is None or other is None:
        return False
    cards = cards_of(gpu)
    if not cards:
        return count_bytes(kernels) < count_bytes(other)
    return cards[0].best_fps(kernels, batch) > cards[0].best_fps(other, batch)


def rewrite_for_rtx(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The form that moves less; None where nothing of it applies.

    Args:
        model: a typed graph with the names of ``export.names``; it is left as it is.
    """
    summed = sum_first_stage(model) if can_sum(model) else model
    rewritten = delay_scales(summed)
    return rewritten if rewritten.graph.node != model.graph.node else None


@functools.lru_cache(maxsize=8)
def _rewrite(content: bytes) -> bytes | None:
    """The rewritten form, proved; None where there is none, or where it is not the same."""
    model = onnx.load_model_from_string(content)
    rewritten = rewrite_for_rtx(model)
    if rewritten is None:
        return None
    try:
        expected, found = _judge(model), _judge(rewritten)
    except ImportError:
        _log.warning("built as it was exported: without ONNX Runtime no other form can be proved to be the same")
        return None
    apart = float(np.abs(found - expected).max()) / (1 + float(np.abs(expected).max()))
    if not apart <= _TOLERANCE:  # written so that NaN fails
        _log.warning("built as it was exported: rewritten for tensorrt-rtx its logits differ by %.1e of them", apart)
        return None
    return bytes(rewritten.SerializeToString())


def _judge(model: onnx.ModelProto) -> NDArray[np.float32]:
    """Logits of a few tiles of photographs."""
    import onnxruntime

    sides = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim[1:3]]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(["logit"], {"image": sample_tiles(sides[0], sides[1], _TILES)})[0]
    return logits
