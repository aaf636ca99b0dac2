import sys

import numpy as np
import pytest

from engines.cpu_settings import default_settings
from engines.ort import OrtEngine, open_session
from engines.ort_binding import BoundSession
from engines.streams import StreamPool
from export.exporter import export_onnx
from export.graph import ExportConfig
from lfm_deploy.artifacts import InputForm
from lfm_deploy.errors import UnavailableError
from lfm_deploy.pictures.photographs import sample_tiles


@pytest.fixture(scope="module")
def session(small_graph):
    return open_session(small_graph, "lfm.onnx", threads=1)


def test_bound_runs_equal_plain_ones_whatever_was_bound_before(session):
    bound, images = BoundSession(session, "cpu"), sample_tiles(256, 256, 9)
    kept = []
    for start, stop in [(0, 3), (3, 6), (2, 4), (0, 1), (5, 9), (0, 3)]:
        chosen = images[start:stop]
        (found,) = bound.run(["logit"], chosen)
        (expected,) = session.run(["logit"], {"image": chosen})
        np.testing.assert_array_equal(found, expected)
        kept.append((found, expected))
    for found, expected in kept:  # results are not memory that a later run writes to
        np.testing.assert_array_equal(found, expected)
    bound.close()


def test_places_are_kept_for_the_two_sizes_that_a_split_batch_has(session):
    bound, images = BoundSession(session, "cpu"), sample_tiles(256, 256, 3)
    for count in (3, 2, 3, 2):
        bound.run(["logit"], images[:count])
    first = list(bound._values)
    bound.run(["logit"], images[:1])
    assert [shape[0] for shape, _ in first] == [3, 2]
    assert [shape[0] for shape, _ in bound._values] == [2, 1]
    bound.close()
    assert bound._values == {}


def test_pictures_that_are_not_contiguous_are_taken(session):
    bound, images = BoundSession(session, "cpu"), sample_tiles(256, 256, 4)
    (found,) = bound.run(["logit"], images[::2])
    np.testing.assert_array_equal(found, session.run(["logit"], {"image": np.ascontiguousarray(images[::2])})[0])


def test_float_graphs_and_evidence_outputs_are_bound_too(small_checkpoint, tmp_path):
    export_onnx(small_checkpoint, tmp_path / "lfm.onnx", ExportConfig(size=64, input=InputForm.FLOAT, evidence=True))
    session = open_session(tmp_path / "lfm.onnx", "lfm.onnx", threads=1)
    pixels = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    outputs = ["logit", "evidence_values", "evidence_positions"]
    expected = session.run(outputs, {"image": pixels})
    for found, wanted in zip(BoundSession(session, "cpu").run(outputs, pixels), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_pieces_of_a_batch_go_through_one_binding(session, small_graph):
    images = sample_tiles(256, 256, 35)
    bound = BoundSession(session, "cpu")
    (logits,) = StreamPool(lambda pixels: bound.run(["logit"], pixels), [], piece=8).run(images)
    np.testing.assert_array_equal(logits, OrtEngine(small_graph, settings=default_settings(1)).logits(images))
    bound.close()


def test_on_a_gpu_it_needs_cuda_python_and_says_so(session, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(UnavailableError, match="cuda-python is not installed"):
        BoundSession(session, "cuda:1")


def test_a_real_gpu_gives_the_same_logits(gpu, small_graph):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime is for the CPU alone")
    images = sample_tiles(256, 256, 35)
    engine = OrtEngine(small_graph, device="cuda:0")
    expected = OrtEngine(small_graph).logits(images)
    for _ in range(2):
        # The export's own tolerance for float32.
        np.testing.assert_allclose(engine.logits(images), expected, rtol=0, atol=1e-3)
    engine.close()
