import subprocess
import sys
import textwrap

import numpy as np
import pytest

import lfm_deploy.machine
from engines.cpu_settings import CpuSettings, default_settings
from engines.loading import load_engine
from engines.openvino import OpenVinoEngine
from engines.ort import OrtEngine
from export.graph import ExportConfig, make_graph
from lfm_deploy.artifacts import Precision
from lfm_deploy.errors import ArtifactError, ConfigError, ShapeError, UnavailableError
from lfm_deploy.machine import has_bfloat16
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.quantisation import Recipe
from lfm_deploy.storage.graph_file import seal_graph

pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")


def settings(**changes):
    return CpuSettings(**{"runtime": "openvino", "streams": 1, "threads": 2, "piece": 3} | changes)


@pytest.mark.parametrize("ways", [{}, {"streams": 2, "threads": 1, "piece": 1}, {"piece": 8}])
@pytest.mark.parametrize("count", [1, 5])
def test_logits_are_those_of_onnx_runtime(small_graph, ways, count):
    tiles = sample_tiles(256, 256, count)
    engine = OpenVinoEngine(small_graph, settings(**ways))
    # Float32 sums in another order; the margin of the export's proof.
    np.testing.assert_allclose(engine.logits(tiles), OrtEngine(small_graph).logits(tiles), rtol=0, atol=1e-3)
    assert (engine.name, engine.runtime, engine.device) == ("openvino fp32", "openvino", "cpu")
    engine.close()


def test_logits_do_not_change_under_the_caller(small_graph):
    tiles = sample_tiles(256, 256, 2)
    engine = OpenVinoEngine(small_graph, settings())
    first = engine.logits(tiles[:1])
    kept = first.copy()
    engine.logits(tiles[1:])
    assert first.tolist() == kept.tolist()


def test_wrong_pictures_and_wrong_files(small_graph, tmp_path):
    with pytest.raises(ShapeError, match="128x128"):
        OpenVinoEngine(small_graph, settings()).logits(sample_tiles(128, 128, 1))
    cut = tmp_path / "lfm.onnx"
    cut.write_bytes(small_graph.read_bytes()[:500])
    with pytest.raises(ArtifactError):
        OpenVinoEngine(cut, settings())


@pytest.fixture(scope="module")
def bf16_graph(small_checkpoint, tmp_path_factory):
    """A BF16 graph of the small network, not proved: that takes a processor with units for it."""
    path = tmp_path_factory.mktemp("bf16") / "lfm.bf16.onnx"
    path.write_bytes(seal_graph(make_graph(read_checkpoint(small_checkpoint), ExportConfig(precision=Precision.BF16))))
    return path


def test_a_graph_that_promises_more_is_never_run_in_bfloat16(small_graph):
    with pytest.raises(ConfigError, match="says fp32, so it is not run in bfloat16"):
        OpenVinoEngine(small_graph, settings(arithmetic="bf16"))
    with pytest.raises(ConfigError, match="arithmetic is 'fp8'"):
        OpenVinoEngine(small_graph, settings(arithmetic="fp8"))


def test_bf16_where_the_processor_has_units_for_it(bf16_graph, small_graph, monkeypatch):
    tiles = sample_tiles(256, 256, 5)
    if has_bfloat16():
        exact = OrtEngine(small_graph).logits(tiles)
        engine = load_engine(bf16_graph)
        assert (engine.name, engine.settings) == ("openvino bf16", default_settings(precision="bf16"))
        # Eight bits a value: small networks add up terms of some hundreds. Other than float32's all the same.
        moved = np.abs(engine.logits(tiles) - exact)
        assert 1e-3 < moved.max() < 5
        np.testing.assert_allclose(
            OpenVinoEngine(bf16_graph, settings(piece=8)).logits(tiles), engine.logits(tiles), atol=1
        )
    monkeypatch.setattr(lfm_deploy.machine, "find_instruction_sets", lambda _=None: ["avx2", "avx512f"])
    with pytest.raises(UnavailableError, match="neither AMX nor AVX512-BF16"):
        load_engine(bf16_graph)


def test_onnx_runtime_refuses_bf16_with_a_reason(bf16_graph):
    with pytest.raises(UnavailableError, match="BF16 is for OpenVINO on a CPU"):
        load_engine(bf16_graph, runtime="onnxruntime")
    with pytest.raises(UnavailableError, match="BF16 is for OpenVINO on a CPU"):
        load_engine(bf16_graph, device="cuda")


def test_int8_is_the_integers_of_onnx_runtime(calibrated):
    graph = calibrated.graph(Precision.INT8, Recipe.CPU)
    tiles = sample_tiles(64, 64, 5)
    exact, plain = OrtEngine(calibrated.graph(Precision.FP32)).logits(tiles), OrtEngine(graph).logits(tiles)
    for ways in ({}, {"streams": 2, "threads": 1, "piece": 1}):
        moved = np.abs(OpenVinoEngine(graph, settings(**ways)).logits(tiles) - plain)
        # Half a step may round to either side; INT8 itself moves these logits by far more.
        assert moved.max() < np.abs(plain - exact).max() / 5


@pytest.mark.parametrize("ways", [{}, {"piece": 1}, {"streams": 2, "threads": 1, "piece": 1}])
def test_pixels_of_the_caller_are_never_written(small_graph, ways):
    """OpenVINO keeps the memory of an input that is shared, and another request would copy its own pixels there."""
    engine = OpenVinoEngine(small_graph, settings(**ways))
    given = [sample_tiles(256, 256, count) for count in (1, 5, 2, 4)]
    kept = [tiles.copy() for tiles in given]
    expected = [engine.logits(tiles).tolist() for tiles in given]
    for tiles in given[::-1]:
        tiles.flags.writeable = False
        engine.logits(tiles[::-1])  # a view, which is copied
        engine.logits(tiles)
    other = OpenVinoEngine(small_graph, settings(**ways))
    other.logits(np.zeros_like(given[0]))
    assert all((tiles == before).all() for tiles, before in zip(given, kept, strict=True))
    assert [engine.logits(tiles).tolist() for tiles in given] == expected


def test_pixels_that_are_gone_are_not_read(small_graph):
    engine = OpenVinoEngine(small_graph, settings())
    expected = engine.logits(sample_tiles(256, 256, 3)).tolist()
    for shade in range(8):
        engine.logits(np.full((3, 256, 256, 3), shade, np.uint8))
    assert engine.logits(sample_tiles(256, 256, 3)).tolist() == expected


def test_without_openvino_it_says_what_to_install(small_graph):
    code = (
        "import sys; sys.modules['openvino'] = None\n"
        "from engines.openvino import load_core\n"
        "from lfm_deploy.errors import UnavailableError\n"
        "try: load_core()\n"
        "except UnavailableError as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install lfm-deploy[openvino]" in found.stdout


SIGNAL_STACK = """
    import ctypes, faulthandler, sys
    from pathlib import Path
    from engines.cpu_settings import CpuSettings
    from engines.openvino import OpenVinoEngine
    from lfm_deploy.interrupts import _SignalStack

    def read():
        found = _SignalStack()
        ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
        return found.sp, found.size

    faulthandler.enable()  # it has a stack of its own, as in every run of pytest
    before = read()
    settings = CpuSettings(runtime="openvino", streams=1, threads=1, piece=1)
    engines = [OpenVinoEngine(Path(sys.argv[1]), settings) for _ in range(2)]
    print(read() == before)
    while engines:  # in the order in which they came
        engines.pop(0).close()
    print(read() == before)
"""


def test_signals_are_handled_on_a_stack_that_is_still_there(small_graph):
    """Ctrl-C crashed a process that had measured ways to run a graph."""
    command = [sys.executable, "-c", textwrap.dedent(SIGNAL_STACK), small_graph]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.stdout.split() == ["True", "True"], finished.stderr
