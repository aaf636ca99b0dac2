import json

import pytest

from lfm_deploy.report.bench_advice import read_outcomes, recommend
from lfm_deploy.storage.atomic import sha256_of_file


def engine(name, precision, fps, *, device="cpu"):
    points = [{"batch": batch, "fps": value, "not_run": None} for batch, value in fps.items()]
    about = None if device is None else {"device": device}
    return {"name": name, "file": f"{name}.onnx", "precision": precision, "about": about, "points": points}


FP32 = engine("ort", "fp32", {1: 90, 8: 100})
BF16 = engine("bf16", "bf16", {1: 350, 8: 430})
INT8 = engine("int8", "int8", {1: 400, 8: 500})


@pytest.mark.parametrize(
    ("outcomes", "line"),
    [
        ({"int8.onnx": "holds"}, "int8 is the fastest at batch 8, 5.00x as fast as FP32, and holds"),
        (
            {"int8.onnx": "fails", "bf16.onnx": "holds"},
            "bf16 is the fastest at batch 8, 4.30x as fast as FP32, and holds",
        ),
        ({"int8.onnx": "undecided"}, "but the last verification had too few pictures"),
        ({}, "but no verification has judged it"),
    ],
)
def test_the_fastest_that_broke_no_gate_is_named(outcomes, line):
    (found,) = recommend([FP32, BF16, INT8], outcomes)
    assert line in found
    assert found.endswith("here") == ("holds" in line)


def test_nothing_is_said_of_one_precision_of_what_did_not_run_or_of_other_devices():
    assert recommend([FP32], {}) == []
    assert recommend([FP32, BF16 | {"about": None}], {}) == []
    assert recommend([FP32, BF16 | {"points": []}], {}) == []
    assert recommend([FP32, engine("gpu", "fp16", {8: 9999}, device="cuda:0")], {}) == []
    assert recommend([FP32, engine("odd", "bf16", {3: 9999})], {}) == []
    assert recommend([FP32, INT8], {"int8.onnx": "fails"}) == []
    assert recommend([FP32, engine("lfm", "fp16", {8: 9}) | {"file": "lfm.pth"}], {}) == []


def test_outcomes_count_for_the_file_that_was_judged(own_deployment):
    graph = own_deployment.path / "lfm.onnx"
    gates = [{"suite": "s", "outcome": "holds"}]
    judged = {"kind": "engine", "not_run": None, "file": "lfm.onnx", "sha256": sha256_of_file(graph), "gates": gates}
    other = judged | {"file": "lfm.fp16.onnx"}  # with the check sum of another file
    own_deployment.report.write_text(json.dumps({"engines": [judged, other, judged | {"file": "gone.onnx"}]}))
    assert read_outcomes(own_deployment) == {"lfm.onnx": "holds"}
    own_deployment.report.write_text("{}")
    assert read_outcomes(own_deployment) == {}
    own_deployment.report.unlink()
    assert read_outcomes(own_deployment) == {}
