import json

import onnx
import pytest

from lfm_deploy.artifacts import GraphInfo, Precision, read_graph_info
from lfm_deploy.contract import EXACT_DECODER
from lfm_deploy.errors import ArtifactError
from lfm_deploy.quantisation import Recipe


def test_graph_info_round_trip(small_graph):
    info = read_graph_info(small_graph)
    assert GraphInfo.from_json(info.to_json(), "x") == info


def test_a_graph_from_before_contracts_named_their_decoder_is_read_as_what_it_was_made_with(small_graph):
    info = read_graph_info(small_graph)
    values = json.loads(info.to_json())
    assert values["format"] == "lfm-deploy graph 3"
    assert values["contract"].pop("decoder") == EXACT_DECODER
    assert GraphInfo.from_json(json.dumps(values), "x") == info
    assert {"pillow", "libjpeg-turbo"} <= info.versions.keys()


@pytest.mark.parametrize("recipe", list(Recipe))
def test_an_int8_graph_carries_its_quantisation(calibrated, recipe):
    info = read_graph_info(calibrated.graph(Precision.INT8, recipe))
    assert info.quantisation.recipe is recipe
    assert GraphInfo.from_json(info.to_json(), "x") == info
    values = json.loads(info.to_json())
    values["quantisation"]["recipe"] = "abacus"
    with pytest.raises(ArtifactError, match="abacus"):
        GraphInfo.from_json(json.dumps(values), "x")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("q['layers'].pop('conv2')", "quantisation.layers are"),
        ("q['layers'].update(conv2='fp64')", "expected fp16, fp32 or int8"),
        ("q['layers'].update(conv2='fp16' if q['recipe'] == 'cpu' else 'fp32')", "other precisions than int8 and"),
        ("q.update(int8_share=1.5)", "int8_share is 1.5"),
        ("q['budget'].update(flips=-1)", "quantisation.budget.flips is -1"),
        ("q.update(colour='red')", "quantisation has the unknown key 'colour'"),
    ],
)
@pytest.mark.parametrize("recipe", list(Recipe))
def test_a_quantisation_that_cannot_be(calibrated, recipe, change, complaint):
    values = json.loads(read_graph_info(calibrated.graph(Precision.INT8, recipe)).to_json())
    exec(change, {"q": values["quantisation"]})  # noqa: S102
    with pytest.raises(ArtifactError, match=complaint):
        GraphInfo.from_json(json.dumps(values), "x")


def test_graphs_that_are_missing_damaged_or_foreign(small_graph, tmp_path):
    with pytest.raises(ArtifactError, match="no such file"):
        read_graph_info(tmp_path / "none.onnx")
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ArtifactError, match=r"empty\.onnx"):
        read_graph_info(tmp_path / "empty.onnx")
    (tmp_path / "cut.onnx").write_bytes(small_graph.read_bytes()[:500])
    with pytest.raises(ArtifactError, match=r"cut\.onnx"):
        read_graph_info(tmp_path / "cut.onnx")
    model = onnx.load(small_graph)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(ArtifactError, match="was not made by lfm-deploy"):
        read_graph_info(tmp_path / "foreign.onnx")
