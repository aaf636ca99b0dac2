"""``lfm-deploy export``: a proved ONNX file, or none."""

from dataclasses import dataclass
from pathlib import Path

from export.graph import ExportConfig, make_graph
from export.proof import ProofRow, prove_graph
from lfm_deploy.network.checkpoint import Checkpoint, read_checkpoint
from lfm_deploy.storage.atomic import sha256_of_bytes, write_atomically
from lfm_deploy.storage.graph_file import seal_graph


@dataclass(frozen=True, kw_only=True)
class ProvedGraph:
    """An ONNX graph that was proved equal to its checkpoint.

    Attributes:
        content: the ONNX file's bytes.
        sha256: SHA-256 of the ONNX file.
        opset: version of ONNX's operator set.
        nodes: number of operators in the graph.
        proof: comparison with the checkpoint, a row for each size and batch.
    """

    content: bytes
    sha256: str
    opset: int
    nodes: int
    proof: list[ProofRow]


def make_proved_graph(checkpoint: Checkpoint, config: ExportConfig) -> ProvedGraph:
    """Export a checkpoint in memory and prove the result in ONNX Runtime.

    Raises:
        BuildError, GateError: the graph is not what it must be.
    """
    model = make_graph(checkpoint, config)
    proof = prove_graph(model, checkpoint, config)
    content = seal_graph(model)
    return ProvedGraph(
        content=content,
        sha256=sha256_of_bytes(content),
        opset=model.opset_import[0].version,
        nodes=len(model.graph.node),
        proof=proof,
    )


def export_onnx(checkpoint: Path | str, output: Path | str, config: ExportConfig | None = None) -> ProvedGraph:
    """Export a checkpoint to an ONNX file, which gets its name only after the proof.

    Args:
        checkpoint: a ``.pth`` file in the published layout or our own.
        output: the ONNX file to write.
        config: the variant; the default is FP32, uint8 in, 256x256.

    Raises:
        CheckpointError: the file is not a checkpoint of LFM.
        BuildError, GateError: the graph is not what it must be; nothing is written.
    """
    graph = make_proved_graph(read_checkpoint(Path(checkpoint)), config or ExportConfig())
    with write_atomically(Path(output)) as temporary:
        temporary.write_bytes(graph.content)
    return graph
