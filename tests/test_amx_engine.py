import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

pytest.importorskip("numba", reason="the extra 'amx' is not installed")

import engines.amx.engine
from engines.amx.engine import AmxEngine, make_runner
from engines.amx.graphs import read_layers
from engines.amx.layers import explain_misfit
from engines.amx.network import make_network
from engines.amx.tiles import EMULATED
from engines.cpu_choice import list_ways
from engines.cpu_settings import CpuSettings
from engines.loading import load_engine
from engines.ort import OrtEngine, open_session
from export.graph import ExportConfig, make_graph
from export.names import LAST_OUTPUT, quantisable_tensors
from export.precision import Int8Config, make_int8_graph, prepare_int8
from lfm_deploy.artifacts import InputForm, Precision, read_graph_info
from lfm_deploy.config import Backbone, Pooling, Residual
from lfm_deploy.errors import ArtifactError, ConfigError, ShapeError, UnavailableError
from lfm_deploy.machine import has_amx
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.quantisation import Recipe
from lfm_deploy.storage.graph_file import seal_graph

needs_amx = pytest.mark.skipif(not has_amx(), reason="this processor has no AMX")


def settings(**changes):
    return CpuSettings(**{"runtime": "amx", "streams": 2, "threads": 1, "piece": 1} | changes)


def run(path, images):
    """Logits by the kernels; by loops in their place where the processor has no units."""
    if not EMULATED:
        from engines.amx.units import request_tiles

        assert request_tiles()
    (logits,) = make_runner(make_network(read_layers(path)))(images)
    return logits


def write_bf16(checkpoint, path, size=256):
    path.write_bytes(
        seal_graph(make_graph(read_checkpoint(checkpoint), ExportConfig(size=size, precision=Precision.BF16)))
    )
    return path


@pytest.fixture(scope="module")
def bf16_graph(small_checkpoint, tmp_path_factory):
    return write_bf16(small_checkpoint, tmp_path_factory.mktemp("bf16") / "lfm.bf16.onnx", 64)


@pytest.fixture(scope="module")
def int8_graph(calibrated):
    """The INT8 graph of the small network, all of whose layers are integers."""
    path = calibrated.graph(Precision.INT8, Recipe.CPU)
    assert set(read_graph_info(path).quantisation.layers.values()) == {"int8"}
    return path


def test_int8_is_the_integers_of_onnx_runtime(int8_graph):
    tiles = sample_tiles(64, 64, 6)
    # Sums of float32 in the linear layer, in another order; one integer moves a logit by a hundred times as much.
    np.testing.assert_allclose(run(int8_graph, tiles), OrtEngine(int8_graph).logits(tiles), rtol=0, atol=1e-3)


def test_int8_that_is_not_unfolded_is_read_too(int8_graph, small_checkpoint, small_config, tmp_path):
    ranges = dict.fromkeys(quantisable_tensors(small_config), (0.0, 20.0)) | {LAST_OUTPUT: (-5.0, 5.0)}
    base = make_graph(read_checkpoint(small_checkpoint), ExportConfig(size=64))
    prepared = prepare_int8(base, Int8Config(recipe=Recipe.CPU, ranges=ranges))
    model = make_int8_graph(prepared, ("conv1", "conv2", "conv3", "projection"))
    del model.metadata_props[:]
    model.metadata_props.extend(onnx.load(int8_graph).metadata_props)
    path = tmp_path / "plain.onnx"
    path.write_bytes(seal_graph(model))
    tiles = sample_tiles(64, 64, 3)
    session = open_session(path.read_bytes(), "a graph", exact_integers=True)
    np.testing.assert_allclose(run(path, tiles), session.run(["logit"], {"image": tiles})[0], rtol=0, atol=1e-3)


def test_bf16_is_as_far_from_float32_as_its_eight_bits(bf16_graph, calibrated):
    tiles = sample_tiles(64, 64, 6)
    moved = np.abs(run(bf16_graph, tiles) - OrtEngine(calibrated.graph(Precision.FP32)).logits(tiles))
    # As OpenVINO's: small networks add up terms of some hundreds. Other than float32's all the same.
    assert 1e-3 < moved.max() < 5


def test_native_sizes(small_checkpoint, tmp_path):
    path = write_bf16(small_checkpoint, tmp_path / "native.onnx", "native")
    exact = tmp_path / "exact.onnx"
    exact.write_bytes(seal_graph(make_graph(read_checkpoint(small_checkpoint), ExportConfig(size="native"))))
    for height, width in ((64, 96), (130, 70)):
        tiles = sample_tiles(height, width, 2)
        # As far as at one size.
        assert np.abs(run(path, tiles) - OrtEngine(exact).logits(tiles)).max() < 5


def test_golden_pictures_come_within_half_of_the_authors_logits(official_checkpoint, golden, tmp_path):
    path = write_bf16(official_checkpoint, tmp_path / "lfm.bf16.onnx")
    count = 2 if EMULATED else len(golden["images"])
    found = run(path, golden["images"][:count])
    # OpenVINO's BF16 comes within 0.2 of them; logits reach 46.
    np.testing.assert_allclose(found, golden["logits"][:count], rtol=0, atol=0.5)


@needs_amx
@pytest.mark.parametrize("ways", [{}, {"streams": 1}, {"piece": 4}])
def test_the_engine_judges_any_number_in_order_and_writes_nowhere_else(int8_graph, ways):
    tiles = sample_tiles(64, 64, 7)
    expected = OrtEngine(int8_graph).logits(tiles)
    given = tiles.copy()
    given.flags.writeable = False
    engine = AmxEngine(int8_graph, settings(**ways))
    for count in (1, 7, 2):
        np.testing.assert_allclose(engine.logits(given[:count]), expected[:count], rtol=0, atol=1e-3)
    np.testing.assert_allclose(engine.logits(given[::-1]), expected[::-1], rtol=0, atol=1e-3)
    np.testing.assert_array_equal(given, tiles)
    assert (engine.name, engine.runtime, engine.precision, engine.device) == ("amx int8", "amx", "int8", "cpu")
    assert engine.describe().startswith("kernels for AMX")
    with pytest.raises(ShapeError, match="128x128"):
        engine.logits(sample_tiles(128, 128, 1))
    engine.close()


@needs_amx
def test_it_is_opened_by_name(int8_graph, bf16_graph):
    assert load_engine(int8_graph, runtime="amx", threads=1).settings.streams == 1
    assert load_engine(bf16_graph, runtime="amx").name == "amx bf16"
    with pytest.raises(ConfigError, match="does not run on 'cuda'"):
        load_engine(int8_graph, runtime="amx", device="cuda")


def test_what_it_does_not_know_is_refused_with_the_reason(int8_graph, bf16_graph, calibrated):
    info = read_graph_info(bf16_graph)
    config = info.config
    assert explain_misfit(info) is None
    for changed, words in (
        (replace(info, config=replace(config, backbone=Backbone.RESNET50, residual=Residual.SIGNED)), "they know SNet"),
        (replace(info, config=replace(config, pooling=Pooling.AVERAGE)), "Top-K"),
        (replace(info, config=replace(config, projection=0)), "projection"),
        (replace(info, config=replace(config, residual=Residual.SIGNED)), "absolute"),
        (replace(info, config=replace(config, pools=0)), "not pooled"),
        (replace(info, input=InputForm.FLOAT), "raw pixels"),
        (replace(info, evidence=True), "evidence"),
        (replace(info, precision=Precision.FP16), "it is fp16"),
        (read_graph_info(calibrated.graph(Precision.FP32)), "it is fp32"),
    ):
        assert words in explain_misfit(changed)
    whole = read_graph_info(int8_graph)
    mixed = replace(whole.quantisation, layers=whole.quantisation.layers | {"conv2": "fp32"})
    assert "layers conv2 are in floating point" in explain_misfit(replace(whole, quantisation=mixed))
    other = replace(whole.quantisation, recipe=Recipe.TENSORRT)
    assert "INT8 for TensorRT" in explain_misfit(replace(whole, quantisation=other))
    with pytest.raises(UnavailableError, match=r"not run by the kernels for AMX: it is fp32.*; run it in ONNX Runtime"):
        read_layers(calibrated.graph(Precision.FP32))


def change(path, target, edit):
    """A copy of a graph with one constant changed."""
    shutil.copy(path, target)
    model = onnx.load(target)
    for index, tensor in enumerate(model.graph.initializer):
        values = edit(tensor.name, numpy_helper.to_array(tensor).copy())
        if values is not None:
            model.graph.initializer[index].CopyFrom(numpy_helper.from_array(values, tensor.name))
    target.write_bytes(seal_graph(model))
    return target


def test_a_graph_without_its_integers_is_refused(int8_graph, tmp_path):
    model = onnx.load(int8_graph)
    for gone in [one for one in model.graph.initializer if one.name == "conv2.weight_quantized"]:
        model.graph.initializer.remove(gone)
    path = tmp_path / "gone.onnx"
    path.write_bytes(seal_graph(model))
    with pytest.raises(ArtifactError, match=r"conv2\.weight_quantized is missing"):
        read_layers(path)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda name, values: values * np.nan if name == "head.bias" else None, "holds NaN or Inf"),
        (lambda name, values: values + 1 if name == "conv1.input_zero_point" else None, "zero_point is not what"),
        (lambda name, values: values * 2 if name == "conv1.input_scale" else None, "input_scale is not what"),
        (lambda name, values: values[:, :2] if name == "conv2.weight_quantized" else None, "conv2.weight_quantized is"),
        (lambda name, values: values + 1 if name == "conv2.weight_zero_point" else None, "zero_point is not what"),
        (lambda name, values: -values if name == "conv2.weight_scale" else None, "not above 0"),
        (
            lambda name, values: values.astype(np.uint8) if name == "conv2.weight_quantized" else None,
            "is uint8, not int8",
        ),
    ],
)
def test_a_graph_that_is_not_as_it_says_is_refused(int8_graph, tmp_path, edit, words):
    with pytest.raises(ArtifactError, match=words):
        read_layers(change(int8_graph, tmp_path / "changed.onnx", edit))


@needs_amx
@pytest.mark.parametrize("streams", [1, 2])
def test_threads_that_share_an_engine_do_not_share_memory(int8_graph, streams):
    tiles = sample_tiles(64, 64, 4)
    engine = AmxEngine(int8_graph, settings(streams=streams))
    expected = [engine.logits(tile[None])[0] for tile in tiles]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda number: engine.logits(tiles[number % 4][None])[0], range(800)))
    np.testing.assert_array_equal(found, expected * 200)


@needs_amx
@pytest.mark.parametrize(
    ("setting", "words"),
    [("NUMBA_DISABLE_JIT=1", "NUMBA_DISABLE_JIT is set"), ("NUMBA_CPU_NAME=generic", "compiles for another processor")],
)
def test_settings_of_numba_that_would_end_the_process_are_refused(int8_graph, setting, words):
    code = (
        "import sys\n"
        "from lfm_deploy.errors import UnavailableError\n"
        "from engines.loading import load_engine\n"
        "try: load_engine(sys.argv[1], runtime='amx')\n"
        "except UnavailableError as error: print(error)"
    )
    name, value = setting.split("=")
    command = [sys.executable, "-c", code, str(int8_graph)]
    found = subprocess.run(command, env=os.environ | {name: value}, capture_output=True, text=True, check=True)
    assert words in found.stdout


def test_without_units_or_numba_it_says_so(int8_graph, monkeypatch):
    monkeypatch.setattr(engines.amx.engine, "find_instruction_sets", lambda: ["avx2", "amx_tile"])
    with pytest.raises(UnavailableError, match=r"this processor has no amx_int8, amx_bf16; run it in ONNX Runtime"):
        AmxEngine(int8_graph, settings())
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from pathlib import Path\n"
        "from engines.amx.engine import AmxEngine\n"
        "from engines.cpu_settings import default_settings\n"
        "from lfm_deploy.errors import UnavailableError\n"
        "try: AmxEngine(Path('lfm.onnx'), default_settings())\n"
        "except UnavailableError as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install lfm-deploy[amx]" in found.stdout


def test_it_is_tried_where_the_processor_has_the_units_and_the_graph_fits(int8_graph, bf16_graph, calibrated):
    for path, fits in ((int8_graph, True), (bf16_graph, True), (calibrated.graph(Precision.FP32), False)):
        info = read_graph_info(path)
        for amx in (True, False):
            ways = list_ways(info, 4, bfloat16=True, amx=amx)
            assert any(way.runtime == "amx" for way in ways) == (fits and amx)
            assert all(way.streams * way.threads == 4 for way in ways)


@needs_amx
def test_what_was_chosen_is_run(int8_graph, own_calibrated):
    from engines.cpu_choice import choose_cpu_settings

    graph = own_calibrated.graph(Precision.INT8, Recipe.CPU)
    choice = choose_cpu_settings(own_calibrated, graph, rounds=1, seconds=0.01)
    tried = {trial.settings.runtime: trial for trial in choice.tried}
    assert tried["amx"].fps is not None
    assert tried["amx"].max_error < 1e-3
    if choice.chosen.runtime == "amx":
        assert load_engine(graph).name == "amx int8"
