import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from simulated_cuda import SimulatedRuntime
from simulated_onnxruntime import SimulatedSession

import engines.ort_cuda
from engines.cpu_settings import default_settings
from engines.cuda_graphs import GraphKey
from engines.gpu_settings import PLAIN
from engines.guarded_run import GuardedSession, RunFailedError
from engines.memory import DeviceBuffer
from engines.ort import OrtEngine
from engines.ort_cuda import GraphNumbers, OrtCudaEngine
from export.exporter import export_onnx
from export.graph import ExportConfig
from lfm_deploy.artifacts import InputForm
from lfm_deploy.errors import ArtifactError, ConfigError, ShapeError, UnavailableError
from lfm_deploy.pictures.photographs import sample_tiles

FEW = replace(PLAIN, piece=4)
CAPTURED = replace(FEW, cuda_graph=True)


@pytest.fixture
def simulate(monkeypatch):
    """Open a graph on a device made of threads, where a real session on the CPU runs it."""

    def load(path, settings, fails=frozenset(), **device):
        runtime = SimulatedRuntime(**device)
        session = SimulatedSession(path, runtime, captures=settings.cuda_graph, fails=fails)

        def open_session(_, name, *, device, cuda_options, **options):
            assert (device, cuda_options) == ("cuda:1", settings.provider_options)
            return GuardedSession(session, name, device, "use another")

        monkeypatch.setattr(engines.ort_cuda, "load_runtime", lambda: runtime)
        monkeypatch.setattr(engines.ort_cuda, "open_session", open_session)
        engine = OrtCudaEngine(path, device="cuda:1", settings=settings)
        return SimpleNamespace(engine=engine, runtime=runtime, session=session)

    return load


@pytest.fixture(scope="module")
def by_cpu(small_graph):
    return OrtEngine(small_graph, settings=default_settings(1))


@pytest.mark.parametrize("settings", [FEW, CAPTURED])
@pytest.mark.parametrize("pictures", [1, 4, 11])
def test_pictures_get_their_logits_in_order_call_by_call_captured_and_replayed(
    simulate, small_graph, by_cpu, settings, pictures
):
    made = simulate(small_graph, settings, copy_seconds=0.002)
    images = sample_tiles(256, 256, 24)
    for start in (0, 5, 9, 13):  # other pictures each time: nothing of a run before may show
        chosen = images[start : start + pictures]
        # Batches of other sizes may sum in another order.
        np.testing.assert_allclose(made.engine.logits(chosen), by_cpu.logits(chosen), rtol=0, atol=1e-3)
    assert made.runtime.failures == []
    parts = -(-pictures // 4)
    if settings.cuda_graph:
        # Each slot has a part of one shape: run twice call by call, since the second is captured, and then replayed.
        assert made.engine.captured_graphs == len(made.session.captured) == parts
        assert (made.session.plain, made.session.replays) == (parts, 2 * parts)
    else:
        assert (made.session.plain, made.engine.captured_graphs) == (4 * parts, 0)


def test_the_rest_of_a_batch_runs_as_a_power_of_two_and_its_filling_stays_behind(simulate, small_graph, by_cpu):
    made, images = simulate(small_graph, CAPTURED), sample_tiles(256, 256, 7)
    for count in (7, 3, 7, 1, 3, 7, 2):
        found = made.engine.logits(images[:count])
        np.testing.assert_allclose(found, by_cpu.logits(images[:count]), rtol=0, atol=1e-3)
    shapes = {binding.places[0][0] // 256 // 256 // 3 for binding in made.session.captured.values()}
    assert shapes == {4}  # three pictures run as four; one and two came once


def test_graphs_of_one_size_point_into_memory_that_never_moves(simulate, small_graph):
    made, images = simulate(small_graph, CAPTURED), sample_tiles(256, 256, 12)
    before = dict(made.runtime.memory)
    for count in (1, 2, 12, 4, 12):
        made.engine.logits(images[:count])
    assert made.runtime.memory == before


def test_pictures_on_the_device_are_taken_where_they_lie_and_none_behind_them(simulate, small_graph, by_cpu):
    made, images = simulate(small_graph, CAPTURED), sample_tiles(256, 256, 7)
    there = DeviceBuffer(made.runtime, images.nbytes)
    np.ctypeslib.as_array(made.runtime.memory[there.address][2])[:] = images.reshape(-1)
    shown = {"shape": images.shape, "typestr": "|u1", "data": (there.address, False), "version": 3, "stream": None}
    for _ in range(3):
        found = made.engine.logits(SimpleNamespace(__cuda_array_interface__=shown))
        np.testing.assert_allclose(found, by_cpu.logits(images), rtol=0, atol=1e-3)
    assert made.engine.captured_graphs == 3  # of 4, 2 and 1 pictures
    with pytest.raises(ShapeError, match="expected uint8"):
        made.engine.logits(SimpleNamespace(__cuda_array_interface__=shown | {"typestr": "<f4"}))


def test_float_graphs_and_evidence_outputs_are_run_too(simulate, small_checkpoint, tmp_path):
    path = tmp_path / "lfm.onnx"
    export_onnx(small_checkpoint, path, ExportConfig(size=64, input=InputForm.FLOAT, evidence=True))
    made, images, expected = simulate(path, CAPTURED), sample_tiles(64, 64, 5), OrtEngine(path)
    for _ in range(3):
        np.testing.assert_allclose(made.engine.logits(images), expected.logits(images), rtol=0, atol=1e-3)
    found, wanted = made.engine.evidence(images), expected.evidence(images)
    np.testing.assert_allclose(found.values, wanted.values, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(found.positions, wanted.positions)
    shown = {"shape": (1, 3, 64, 64), "typestr": "<f4", "data": (1, False), "version": 3}
    with pytest.raises(ShapeError, match="without --input float"):
        made.engine.logits(SimpleNamespace(__cuda_array_interface__=shown))


def test_evidence_of_a_graph_without_it_names_the_option(simulate, small_graph):
    with pytest.raises(ArtifactError, match="--evidence"):
        simulate(small_graph, FEW).engine.evidence(sample_tiles(256, 256, 1))


def test_a_run_that_fails_is_one_line_and_the_next_pictures_are_judged_rightly(simulate, small_graph, by_cpu):
    made = simulate(small_graph, CAPTURED, fails=frozenset([1]), copy_seconds=0.002)
    images = sample_tiles(256, 256, 11)
    made.engine.logits(images)
    with pytest.raises(
        RunFailedError, match=r"fails when it runs on cuda:1 \(CUDA failure 901: capture failed\)"
    ) as caught:
        made.engine.logits(images)
    assert caught.value.exit_code == 3
    for chosen in (images[::-1], images):
        np.testing.assert_allclose(made.engine.logits(chosen), by_cpu.logits(chosen), rtol=0, atol=1e-3)


def test_closing_gives_everything_back(simulate, small_graph):
    made = simulate(small_graph, FEW)
    made.engine.logits(sample_tiles(256, 256, 5))
    made.engine.close()
    assert (made.runtime.memory, made.runtime.events, made.runtime.streams) == ({}, {}, {})


def test_it_says_what_it_is(simulate, small_graph):
    engine = simulate(small_graph, CAPTURED).engine
    assert (engine.name, engine.describe()) == (
        "onnxruntime fp32 cuda:1",
        "ONNX Runtime, CUDA graphs, 4 pictures at a time",
    )
    assert engine.batch_range == (1, 4)


def key(number, address=0):
    return GraphKey((number,), address, 0)


def test_a_number_stands_for_one_shape_at_one_place_and_is_given_at_the_second_use():
    numbers = GraphNumbers(2)
    assert [numbers.choose(key(1)), numbers.choose(key(1)), numbers.choose(key(1))] == [-1, 0, 0]
    assert [numbers.choose(key(1, address=9)), numbers.choose(key(1, address=9))] == [-1, 1]
    assert [numbers.choose(key(2)), numbers.choose(key(2))] == [-1, -1]  # no more than two are made
    assert [numbers.choose(key(1)), numbers.choose(key(1, address=9)), len(numbers)] == [0, 1, 2]


def test_what_came_long_ago_counts_as_new():
    numbers = GraphNumbers(2)
    for size in (1, 2, 3):
        numbers.choose(key(size))
    assert [numbers.choose(key(1)), numbers.choose(key(1))] == [-1, 0]


def test_without_the_provider_or_cuda_python_it_says_so(small_graph, monkeypatch):
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(UnavailableError, match="onnxruntime-gpu"):
            OrtCudaEngine(small_graph)
    monkeypatch.setattr(engines.ort_cuda, "open_session", lambda *_, **__: None)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(UnavailableError, match="cuda-python is not installed"):
        OrtCudaEngine(small_graph)
    with pytest.raises(ConfigError, match="expected cuda or cuda:N"):
        OrtCudaEngine(small_graph, device="cpu")


@pytest.mark.parametrize("settings", [PLAIN, replace(PLAIN, piece=128, nhwc=True, cuda_graph=True)])
def test_a_real_gpu_gives_the_same_logits(gpu, small_graph, by_cpu, settings):
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime is for the CPU alone")
    images = sample_tiles(256, 256, 35)
    engine = OrtCudaEngine(small_graph, device="cuda:0", settings=settings)
    for chosen in (images, images[:3], images[::-1], images):  # call by call, captured, replayed
        # The export's own tolerance for float32.
        np.testing.assert_allclose(engine.logits(chosen), by_cpu.logits(chosen), rtol=0, atol=1e-3)
    engine.close()
