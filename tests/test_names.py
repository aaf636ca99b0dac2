import onnx
import pytest

from export.graph import ExportConfig, make_graph
from export.names import find_convolutions, input_name, name_layers, quantisable_tensors
from lfm_deploy.artifacts import Precision
from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import BuildError
from lfm_deploy.network.checkpoint import read_checkpoint


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_layers_and_tensors_are_called_the_same_in_every_precision(small_checkpoint, small_config, precision):
    model = make_graph(read_checkpoint(small_checkpoint), ExportConfig(precision=precision))
    convolutions = find_convolutions(model)
    assert tuple(node.name for node in convolutions) == small_config.layers == ("conv1", "conv2", "conv3", "projection")
    for node in convolutions:
        assert list(node.input[:2]) == [input_name(node.name), f"{node.name}.weight"]
    assert convolutions[-1].output[0] == "projection.output"
    assert quantisable_tensors(small_config) == (*(node.input[0] for node in convolutions), "projection.output")
    names = {node.name for node in model.graph.node}
    assert {"conv1.relu", "conv1.pool", "conv2.pool", "conv3.relu"} <= names
    assert "conv3.pool" not in names


def test_a_graph_with_other_layers_is_refused(small_graph):
    with pytest.raises(BuildError, match="has 4 convolutions instead of 5"):
        name_layers(onnx.load(small_graph), ModelConfig())
