import subprocess
import sys
import textwrap

import numpy as np
import pytest

from engines.cpu_settings import CpuSettings
from engines.openvino import OpenVinoEngine, has_bfloat16
from engines.ort import OrtEngine
from lfm_deploy.errors import ArtifactError, ShapeError, UnavailableError
from lfm_deploy.pictures.photographs import sample_tiles

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


def test_bfloat16_only_where_the_processor_has_it(small_graph):
    if has_bfloat16():
        engine = OpenVinoEngine(small_graph, settings(arithmetic="bf16"))
        assert np.isfinite(engine.logits(sample_tiles(256, 256, 1))).all()
        return
    with pytest.raises(UnavailableError, match="this processor has none"):
        OpenVinoEngine(small_graph, settings(arithmetic="bf16"))


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
