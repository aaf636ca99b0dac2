"""The proof that follows an export: the graph in a runtime against the published forward pass.

The runtime is ONNX Runtime, which on a CPU has no bfloat16; BF16 graphs are proved in OpenVINO.

Pictures are tiles of real photographs, at several batch sizes, so that every picture is judged alone and inside
a batch. A graph that misses its tolerance is not handed over.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from export.graph import ExportConfig
from lfm_deploy.artifacts import InputForm, Precision
from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import Contract
from lfm_deploy.errors import BuildError, GateError, first_line, is_out_of_memory, missing_library
from lfm_deploy.interrupts import keep_signal_stack
from lfm_deploy.machine import require_bfloat16
from lfm_deploy.network.checkpoint import Checkpoint
from lfm_deploy.network.evidence import evidence_contributions
from lfm_deploy.network.model import LFM, normalise
from lfm_deploy.pictures.photographs import sample_tiles

BATCHES = (1, 3, 32)
Run = Callable[[NDArray[Any]], list[NDArray[Any]]]
"""Runs a batch of pictures and gives each output, pictures first."""
# A logit is a sum of terms weight * value, and its rounding error grows with the sum of their sizes, so errors are
# judged by that sum, picture by picture; a network with small logits is then held to as strict a proof as one with
# large ones. Seen, over published and random networks: 8e-7 of it in float32, 6e-4 in float16; a first convolution that
# is wrong by 1 % moves logits by 2e-3 to 1e-2 of it. Bfloat16 has three bits less than float16.
RELATIVE_TOLERANCES = {Precision.FP32: 1e-5, Precision.FP16: 2e-3, Precision.BF16: 8e-3}
# And for float32 never more than this, the acceptance for published checkpoints, whose terms add up to 260.
ABSOLUTE_TOLERANCES = {Precision.FP32: 1e-3, Precision.FP16: np.inf, Precision.BF16: np.inf}
# Contributions are summed in float32 in another order than the linear layer's.
_EVIDENCE_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofRow:
    """One line of the proof.

    Attributes:
        size: height and width of the tiles.
        batch: number of pictures that went in at a time.
        pictures: number of pictures that were compared.
        max_error, mean_error: largest and mean |logit - published logit|.
        max_relative_error: largest |logit - published logit| over the sum of the sizes of the terms that make up the
            logit.
        flips: pictures whose decision differs.
    """

    size: tuple[int, int]
    batch: int
    pictures: int
    max_error: float
    mean_error: float
    max_relative_error: float
    flips: int


def prove_graph(model: onnx.ModelProto, checkpoint: Checkpoint, config: ExportConfig) -> list[ProofRow]:
    """Compare a graph with the published forward pass in float32 on real pixels.

    Raises:
        GateError: a logit differs by more than the precision's tolerance, or the evidence does not add up to
            the logit.
        UnavailableError: the runtime is not installed, or the processor has no bfloat16.
    """
    run = _open_openvino(model) if config.precision is Precision.BF16 else _open(model)
    network = checkpoint.build_model()
    sizes = [(config.size, config.size)] if config.size != "native" else _native_sizes(checkpoint.config)
    rows = []
    for height, width in sizes:
        tiles = sample_tiles(height, width, max(BATCHES))
        expected, sizes_of_terms = _run_published(network, tiles)
        for batch in BATCHES:
            outputs = _run(run, tiles, batch, config.input)
            row = _compare(outputs[0], expected, sizes_of_terms, (height, width), batch)
            _judge(row, config.precision)
            if config.evidence:
                _judge_evidence(outputs, network, (height, width))
            rows.append(row)
    return rows


def _native_sizes(config: ModelConfig) -> list[tuple[int, int]]:
    """The smallest square, two oblong ones, and the common one."""
    return [(config.min_square, config.min_square), (128, 160), (256, 200), (256, 256)]


def _open(model: onnx.ModelProto) -> Run:
    """The graph in ONNX Runtime on the CPU."""
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_library(error, "the proof in ONNX Runtime", "pip install lfm-deploy[cpu]") from None
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:
        if is_out_of_memory(error):
            raise MemoryError(first_line(error)) from None
        raise
    return lambda images: list(session.run(None, {"image": images}))


def _open_openvino(model: onnx.ModelProto) -> Run:
    """The graph in OpenVINO on the CPU, each type as written."""
    require_bfloat16()
    try:
        import openvino
    except ImportError as error:
        raise missing_library(error, "the proof in OpenVINO", "pip install lfm-deploy[openvino]") from None
    core = openvino.Core()
    with keep_signal_stack():
        network = core.read_model(model.SerializeToString())
        request = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()

    def run(images: NDArray[Any]) -> list[NDArray[Any]]:
        found = request.infer({"image": np.ascontiguousarray(images)}, share_inputs=True)
        return [np.array(found[index]) for index in range(len(found))]

    return run


def _run_published(network: LFM, tiles: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Published logits ``(N,)``, and for each the sum of the sizes of its terms ``(N,)``."""
    with torch.inference_mode():
        pixels = normalise(torch.from_numpy(tiles))
        features = network.features(pixels)
        terms = features * network.fc.weight
        return network.fc(features).squeeze(1).numpy(), terms.abs().sum(dim=1).numpy()


def _run(run: Run, tiles: NDArray[np.uint8], batch: int, form: InputForm) -> list[NDArray[Any]]:
    images = tiles if form is InputForm.UINT8 else normalise(torch.from_numpy(tiles)).numpy()
    try:
        parts = [run(images[start : start + batch]) for start in range(0, len(images), batch)]
    except Exception as error:  # onnxruntime's own classes are private to its binding
        if is_out_of_memory(error):
            raise MemoryError(first_line(error)) from None
        raise BuildError(f"the exported graph fails when it runs ({first_line(error)}); nothing was written") from None
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _compare(
    logits: NDArray[np.float32],
    expected: NDArray[np.float32],
    sizes_of_terms: NDArray[np.float32],
    size: tuple[int, int],
    batch: int,
) -> ProofRow:
    errors = np.abs(logits.astype(np.float64) - expected)
    threshold = Contract().threshold
    return ProofRow(
        size=size,
        batch=batch,
        pictures=len(expected),
        max_error=float(errors.max()),
        mean_error=float(errors.mean()),
        max_relative_error=float((errors / sizes_of_terms).max()),
        flips=int(((logits > threshold) != (expected > threshold)).sum()),
    )


def _judge(row: ProofRow, precision: Precision) -> None:
    relative, absolute = RELATIVE_TOLERANCES[precision], ABSOLUTE_TOLERANCES[precision]
    # Written so that NaN fails.
    if not (row.max_error <= absolute and row.max_relative_error <= relative):
        raise GateError(
            f"the {precision} graph differs from the checkpoint by up to {row.max_error:.3g} in the logit, "
            f"{row.max_relative_error:.2g} of its terms (allowed: {absolute:g} and {relative:g}), on "
            f"{row.size[1]}x{row.size[0]} tiles at batch {row.batch}; nothing was written. Report this with the "
            "checkpoint's layout and the output of 'pip freeze'"
        )


def _judge_evidence(outputs: list[NDArray[Any]], network: LFM, size: tuple[int, int]) -> None:
    logits, values, positions = outputs
    weight, bias = network.fc.weight.numpy(), float(network.fc.bias)
    error = np.abs(evidence_contributions(values, weight).sum(axis=(1, 2)) + bias - logits).max()
    rows, columns = network.config.map_size(*size)
    if not error <= _EVIDENCE_TOLERANCE or positions.min() < 0 or positions.max() >= rows * columns:
        raise GateError(
            f"the evidence does not add up to the logit (off by {error:.3g}, allowed {_EVIDENCE_TOLERANCE:g}) "
            f"on {size[1]}x{size[0]} tiles; nothing was written"
        )
