"""Where the artifacts of a workdir came from: its checkpoint, and the graph that was exported from it."""

from lfm_deploy.artifacts import GraphInfo, Precision, read_graph_info
from lfm_deploy.errors import ArtifactError
from lfm_deploy.network.checkpoint import Checkpoint, read_checkpoint
from lfm_deploy.workdir import Workdir


def read_origin(workdir: Workdir) -> tuple[Checkpoint, GraphInfo]:
    """The checkpoint of a workdir, and what its ``lfm.onnx`` says of itself, after checking that they belong together.

    Raises:
        ArtifactError: nothing was exported here, or ``lfm.onnx`` was made from another checkpoint.
    """
    source = read_checkpoint(workdir.require_checkpoint())
    base = read_graph_info(workdir.graph(Precision.FP32))
    if base.checkpoint_sha256 != source.sha256:
        raise ArtifactError(
            f"{workdir.graph(Precision.FP32)}: was made from another checkpoint than {workdir.checkpoint}; "
            "run 'lfm-deploy export CHECKPOINT.pth' again"
        )
    return source, base
