import dataclasses
import json

import onnx
import pytest

from lfm_deploy.artifacts import EngineInfo, GraphInfo, Precision, make_fingerprint, read_graph_info, sidecar_path
from lfm_deploy.errors import ArtifactError
from lfm_deploy.quantisation import Recipe


def test_graph_info_round_trip(small_graph):
    info = read_graph_info(small_graph)
    assert GraphInfo.from_json(info.to_json(), "x") == info


def test_engine_info_round_trip(deployment):
    text = sidecar_path(deployment.engine(Precision.FP16, "sm86")).read_text()
    info = EngineInfo.from_json(text, "x")
    assert info.to_json() == text
    native = dataclasses.replace(info, sides=(48, 256, 512))
    assert EngineInfo.from_json(native.to_json(), "x") == native


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
        ({"format": "lfm-deploy engine 9"}, "of format 'lfm-deploy engine 9'"),
        ({"surprise": 1}, r"unknown \['surprise'\]"),
        ({"precision": "fp64"}, "fp64"),
        ({"batch": [1, 2]}, "not enough values"),
        ({"contract": {}}, "a contract has the keys"),
    ],
)
def test_a_sidecar_that_is_not_ours_is_refused(deployment, change, complaint):
    values = json.loads(sidecar_path(deployment.engine(Precision.FP16, "sm86")).read_text()) | change
    with pytest.raises(ArtifactError, match=complaint):
        EngineInfo.from_json(json.dumps(values), "x.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_damaged_sidecar_is_refused(text):
    with pytest.raises(ArtifactError, match=r"x\.json"):
        EngineInfo.from_json(text, "x.json")


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


def test_fingerprints_depend_on_values_alone():
    assert make_fingerprint(a=1, b=(2, 3)) == make_fingerprint(b=[2, 3], a=1) != make_fingerprint(a=1, b=(2, 4))
