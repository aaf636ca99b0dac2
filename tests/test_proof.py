import dataclasses
from importlib.util import find_spec

import numpy as np
import onnx
import pytest

from export.exporter import export_onnx
from export.graph import ExportConfig, make_graph
from export.proof import BATCHES, prove_graph
from lfm_deploy.artifacts import InputForm, Precision
from lfm_deploy.errors import GateError, UnavailableError
from lfm_deploy.machine import has_bfloat16
from lfm_deploy.network.checkpoint import read_checkpoint

# In pixels; what is proved is the same at every size.
SIDE = 64
needs_bfloat16 = pytest.mark.skipif(
    not has_bfloat16() or find_spec("openvino") is None, reason="no units for bfloat16 here, or no OpenVINO"
)


@pytest.fixture(scope="module")
def checkpoint(small_checkpoint):
    return read_checkpoint(small_checkpoint)


@pytest.mark.parametrize(
    "config",
    [
        ExportConfig(),
        ExportConfig(size="native"),
        ExportConfig(size=SIDE, input=InputForm.FLOAT),
        ExportConfig(size=SIDE, evidence=True),
        ExportConfig(size=SIDE, precision=Precision.FP16),
        pytest.param(ExportConfig(size=SIDE, precision=Precision.BF16), marks=needs_bfloat16),
        pytest.param(
            ExportConfig(size="native", input=InputForm.FLOAT, precision=Precision.BF16), marks=needs_bfloat16
        ),
        ExportConfig(size="native", input=InputForm.FLOAT, evidence=True, precision=Precision.FP16),
    ],
    ids=lambda config: f"{config.size}-{config.input}-{config.precision}-{config.evidence}",
)
def test_every_variant_is_proved_alone_and_inside_batches(checkpoint, config):
    rows = prove_graph(make_graph(checkpoint, config), checkpoint, config)
    assert {row.batch for row in rows} == set(BATCHES) == {1, 3, 32}
    # Residuals of normalised pixels are no whole numbers, and lose more in bfloat16 than a random network can bear.
    bears = config.precision is not Precision.BF16 or config.input is InputForm.UINT8
    assert all(row.pictures == 32 and (row.flips == 0 or not bears) for row in rows)


def scaled(model, name_part, factor):
    """The graph with one weight tensor scaled: the smallest sabotage that a wrong fold would be."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensor = next(t for t in copy.graph.initializer if name_part in t.name and len(t.dims) == 4)
    values = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array((values * factor).astype(values.dtype), tensor.name))
    return copy


def test_a_sabotaged_weight_is_caught_and_nothing_is_written(checkpoint, small_checkpoint, tmp_path, monkeypatch):
    import export.exporter

    config = ExportConfig(size=SIDE)
    with pytest.raises(GateError, match="differs from the checkpoint"):
        prove_graph(scaled(make_graph(checkpoint, config), "conv1", 1.01), checkpoint, config)
    monkeypatch.setattr(
        export.exporter, "make_graph", lambda source, options: scaled(make_graph(source, options), "projection", 1.01)
    )
    with pytest.raises(GateError):
        export_onnx(small_checkpoint, tmp_path / "lfm.onnx", config)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["conv1", "projection"])
def test_one_per_cent_is_caught_in_fp16_and_in_networks_with_small_logits(checkpoint, part):
    for precision in (Precision.FP32, Precision.FP16):
        config = ExportConfig(size=SIDE, precision=precision)
        small = dataclasses.replace(
            checkpoint, state=checkpoint.state | {"fc.weight": checkpoint.state["fc.weight"] / 1000}
        )
        graph = make_graph(small, config)
        assert prove_graph(graph, small, config)[0].max_error < 1e-3
        with pytest.raises(GateError, match="of its terms"):
            prove_graph(scaled(graph, part, 1.01), small, config)


def test_swapped_channels_are_caught(checkpoint):
    config = ExportConfig(size=SIDE)
    model = make_graph(checkpoint, config)
    tensor = next(t for t in model.graph.initializer if "conv1" in t.name and len(t.dims) == 4)
    values = onnx.numpy_helper.to_array(tensor)[:, ::-1]
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))
    with pytest.raises(GateError):
        prove_graph(model, checkpoint, config)


def test_a_logit_that_is_no_number_is_caught(checkpoint):
    config = ExportConfig(size=SIDE)
    with pytest.raises(GateError):
        prove_graph(scaled(make_graph(checkpoint, config), "projection", np.nan), checkpoint, config)


def test_evidence_that_does_not_add_up_is_caught(checkpoint):
    config = ExportConfig(size=SIDE, evidence=True)
    model = make_graph(checkpoint, config)
    # Hand out the values negated: the logit stays right, the evidence does not.
    values = next(out for out in model.graph.output if out.name == "evidence_values")
    producer = next(node for node in model.graph.node if values.name in node.output)
    inner = "values_inside"
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == values.name:
                node.input[index] = inner
    producer.output[list(producer.output).index(values.name)] = inner
    model.graph.node.append(onnx.helper.make_node("Neg", [inner], [values.name], name="sabotage"))
    with pytest.raises(GateError, match="does not add up"):
        prove_graph(model, checkpoint, config)


def test_without_units_for_bfloat16_nothing_is_proved(checkpoint, monkeypatch):
    monkeypatch.setattr("lfm_deploy.machine.find_instruction_sets", lambda _=None: ["avx2"])
    config = ExportConfig(size=SIDE, precision=Precision.BF16)
    with pytest.raises(UnavailableError, match="neither AMX nor AVX512-BF16"):
        prove_graph(make_graph(checkpoint, config), checkpoint, config)


@needs_bfloat16
def test_a_wrong_weight_is_caught_in_bf16(checkpoint):
    config = ExportConfig(size=SIDE, precision=Precision.BF16)
    with pytest.raises(GateError, match="bf16 graph differs"):
        prove_graph(scaled(make_graph(checkpoint, config), "projection", 1.05), checkpoint, config)
