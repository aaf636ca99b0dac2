"""``lfm-deploy export``: a proved ONNX file, or none."""

from dataclasses import dataclass
from pathlib import Path

import onnx

from export.graph import ExportConfig, make_graph
from export.proof import ProofRow, prove_graph
from lfm_deploy.atomic import sha256_of_file, write_atomically
from lfm_deploy.checkpoint import read_checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What an export made: the file, its sha256, and the proof."""

    path: Path
    sha256: str
    opset: int
    nodes: int
    proof: list[ProofRow]


def export_onnx(checkpoint: Path, output: Path, config: ExportConfig | None = None) -> ExportResult:
    """Export a checkpoint to ONNX and prove the result before it gets its name.

    Args:
        checkpoint: a ``.pth`` file in the published layout or our own.
        output: the ONNX file to write; replaced only by a graph that was proved.
        config: the variant; the default is FP32, uint8 in, 256x256.

    Raises:
        CheckpointError: the file is not a checkpoint of LFM.
        BuildError, GateError: the graph is not what it must be; nothing is written.
    """
    config = config or ExportConfig()
    source = read_checkpoint(checkpoint)
    model = make_graph(source, config)
    proof = prove_graph(model, source, config)
    with write_atomically(output) as temporary:
        onnx.save(model, temporary)
    return ExportResult(
        path=output,
        sha256=sha256_of_file(output),
        opset=model.opset_import[0].version,
        nodes=len(model.graph.node),
        proof=proof,
    )
