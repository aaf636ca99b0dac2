import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from simulated_cuda import SimulatedRuntime
from simulated_tensorrt import SimulatedPlan, simulate_library

import engines.gpus
import engines.trt
from engines.cpu_settings import default_settings
from engines.engine import PhasedEngine
from engines.gpus import Gpu
from engines.library import load_library
from engines.loading import load_engine
from engines.memory import CudaError, DeviceBuffer
from engines.ort import OrtEngine
from engines.trt import TensorRTEngine, check_gpu, check_version
from lfm_deploy.artifacts import Precision
from lfm_deploy.engine_info import read_engine_info, sidecar_path
from lfm_deploy.errors import ArtifactError, InputError, OtherGpuError, ShapeError, UnavailableError
from lfm_deploy.pictures.photographs import sample_tiles

A6000 = Gpu(index=0, name="NVIDIA RTX A6000", sm="sm86")


@pytest.fixture
def engine_file(own_deployment):
    return own_deployment.engine(Precision.FP16, "sm86")


def test_without_a_driver_loading_is_exit_3_and_one_sentence(engine_file, no_gpu):
    with pytest.raises(UnavailableError, match="no CUDA device") as caught:
        load_engine(engine_file)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_a_plan_for_this_gpu_and_library_is_runnable(engine_file):
    info = read_engine_info(engine_file)
    check_version(engine_file, info, load_library("tensorrt-rtx"))
    check_gpu(engine_file, info, A6000)


def test_a_plan_of_another_library_version_is_stale_with_or_without_a_gpu(engine_file):
    info = replace(read_engine_info(engine_file), library_version="1.6.0")
    sidecar_path(engine_file).write_text(info.to_json())
    with pytest.raises(ArtifactError, match=r"stale.*1\.6\.0.*lfm-deploy build --fp16 --gpu sm86"):
        load_engine(engine_file)


@pytest.mark.parametrize(
    ("built", "here", "loads"),
    [("11.0.0.114", "11.4.0.106", True), ("10.16.1.11", "11.0.0.114", True), ("11.4.0.106", "11.0.0.114", False)],
)
def test_a_version_compatible_plan_loads_in_newer_versions(engine_file, built, here, loads):
    info = read_engine_info(engine_file)
    runtimes = (f"tensorrt >= {built}", f"tensorrt-lean >= {built}")
    info = replace(info, runtime="tensorrt", library_version=built, loads_in=runtimes)
    library = SimpleNamespace(name="tensorrt-lean", version=here)
    if loads:
        check_version(engine_file, info, library)
        with pytest.raises(ArtifactError, match="load only in the version that built them"):
            check_version(engine_file, replace(info, loads_in=runtimes[:1]), library)
    else:
        with pytest.raises(ArtifactError, match=r"tensorrt-lean 11\.0\.0\.114, and .* and in newer ones"):
            check_version(engine_file, info, library)


def test_a_plan_for_another_gpu_names_the_command(engine_file):
    other = Gpu(index=0, name="NVIDIA L4", sm="sm89")
    with pytest.raises(
        OtherGpuError, match="built for sm86, but NVIDIA L4 is sm89; run 'lfm-deploy build --fp16 --gpu sm89'"
    ):
        check_gpu(engine_file, read_engine_info(engine_file), other)


def test_a_damaged_plan_is_refused_before_any_gpu_is_asked(engine_file):
    content = bytearray(engine_file.read_bytes())
    content[len(content) // 2] ^= 1
    engine_file.write_bytes(content)
    with pytest.raises(ArtifactError, match="damaged"):
        load_engine(engine_file)


def test_a_missing_sidecar_is_refused(engine_file):
    sidecar_path(engine_file).unlink()
    with pytest.raises(ArtifactError, match=r"sidecar .* is missing"):
        load_engine(engine_file)


def test_the_sidecar_of_another_plan_is_refused(own_deployment, engine_file):
    shutil.copy(sidecar_path(own_deployment.engine(Precision.FP32, "sm86")), sidecar_path(engine_file))
    with pytest.raises(ArtifactError, match="another plan"):
        load_engine(engine_file)


def test_load_engine_refuses_unknown_kinds(tmp_path):
    with pytest.raises(InputError, match=r"expected a \.pth, \.onnx or \.engine"):
        load_engine(tmp_path / "model.bin")


@pytest.fixture
def simulate(deployment, monkeypatch):
    """Load a real plan's sidecar on a device made of threads; the logits are ONNX Runtime's of the same graph."""
    path = deployment.engine(Precision.FP16, "sm86")
    by_cpu = OrtEngine(deployment.graph(Precision.FP16), settings=default_settings(1))

    def load(batch=(1, 4, 4), cuda_graphs=True, **device):
        runtime = SimulatedRuntime(**device)
        plan = SimulatedPlan(runtime, by_cpu, 1 << 20)
        library = simulate_library(load_library("tensorrt-rtx"), plan)
        info = replace(read_engine_info(path), batch=batch)
        monkeypatch.setattr(engines.trt, "load_runtime", lambda: runtime)
        monkeypatch.setattr(engines.gpus, "load_runtime", lambda: runtime)
        monkeypatch.setattr(engines.trt, "load_runtime_for", lambda info: library)
        monkeypatch.setattr(engines.trt, "read_engine_info", lambda path: info)
        return SimpleNamespace(engine=TensorRTEngine(path, cuda_graphs=cuda_graphs), runtime=runtime, plan=plan)

    load.by_cpu = by_cpu
    return load


@pytest.mark.parametrize("cuda_graphs", [True, False])
@pytest.mark.parametrize("pictures", [1, 4, 11])
def test_split_and_overlapped_pictures_get_the_same_logits_in_order(simulate, pictures, cuda_graphs):
    made = simulate(cuda_graphs=cuda_graphs, copy_seconds=0.002)
    images = sample_tiles(256, 256, 24)
    for start in (0, 5, 9, 13):  # other pictures each time: nothing of a run before may show
        chosen = images[start : start + pictures]
        # Batches of other sizes may sum in another order.
        np.testing.assert_allclose(made.engine.logits(chosen), simulate.by_cpu.logits(chosen), rtol=0, atol=1e-3)
    assert made.runtime.failures == []
    assert (made.runtime.launches > 0) is cuda_graphs


@pytest.mark.parametrize(("batch", "pictures", "expected"), [((1, 64, 64), 64, [32, 32]), ((40, 64, 64), 40, [40])])
def test_a_batch_from_host_memory_runs_in_parts_but_in_none_that_would_be_filled_up(
    simulate, monkeypatch, batch, pictures, expected
):
    made, ran = simulate(batch=batch), []
    run = made.engine._runner.run
    monkeypatch.setattr(made.engine._runner, "run", lambda key: (ran.append(key.shape[0]), run(key)))
    images = sample_tiles(256, 256, pictures)
    np.testing.assert_allclose(made.engine.logits(images), simulate.by_cpu.logits(images), rtol=0, atol=1e-3)
    assert ran == expected


def test_each_size_and_slot_has_one_graph(simulate):
    made = simulate()
    images = sample_tiles(256, 256, 11)
    for _ in range(4):
        made.engine.logits(images)  # parts of 3, 4 and 4: slots take turns
    # 3 in the first slot, 4 in both.
    assert made.engine.captured_graphs == 3
    assert made.engine.uses_cuda_graphs
    assert made.engine.why_no_cuda_graphs is None


def test_a_larger_batch_moves_the_buffers_and_drops_their_graphs(simulate):
    made = simulate()
    images = sample_tiles(256, 256, 4)
    for _ in range(3):
        made.engine.logits(images[:2])
    assert made.engine.captured_graphs == 1
    np.testing.assert_allclose(made.engine.logits(images), simulate.by_cpu.logits(images), rtol=0, atol=1e-3)
    assert made.engine.captured_graphs == 0
    for _ in range(3):
        found = made.engine.logits(images[:2])
    np.testing.assert_allclose(found, simulate.by_cpu.logits(images[:2]), rtol=0, atol=1e-3)
    assert made.engine.captured_graphs == 1


def test_fewer_pictures_than_the_profile_takes_are_filled_up(simulate):
    made = simulate(batch=(3, 4, 4))
    images = sample_tiles(256, 256, 2)
    np.testing.assert_allclose(made.engine.logits(images), simulate.by_cpu.logits(images), rtol=0, atol=1e-3)


def test_pictures_on_the_device_are_taken_where_they_lie(simulate):
    made = simulate()
    images = sample_tiles(256, 256, 10)
    there = DeviceBuffer(made.runtime, images.size)
    np.ctypeslib.as_array(made.runtime.memory[there.address][2])[:] = images.reshape(-1)
    shown = {"shape": images.shape, "typestr": "|u1", "data": (there.address, False), "version": 3, "stream": None}
    array = SimpleNamespace(__cuda_array_interface__=shown)
    for _ in range(3):
        np.testing.assert_allclose(made.engine.logits(array), simulate.by_cpu.logits(images), rtol=0, atol=1e-3)
    assert made.engine.captured_graphs == 3
    assert made.runtime.failures == []


def test_phases_are_timed_apart(simulate):
    made = simulate(copy_seconds=0.002)
    made.plan.compute_seconds = 0.005
    images = sample_tiles(256, 256, 4)
    assert isinstance(made.engine, PhasedEngine)
    for _ in range(3):
        times = made.engine.time_phases(images)
    found = (times.host_to_device_ms, times.compute_ms, times.device_to_host_ms)
    assert found == pytest.approx((2, 5, 2))  # by the simulated device's own clock
    assert times.enqueue_ms > 0
    with pytest.raises(ShapeError, match="5 pictures do not run in one go, expected at most 4"):
        made.engine.time_phases(sample_tiles(256, 256, 5))
    np.testing.assert_allclose(made.engine.logits(images), simulate.by_cpu.logits(images), rtol=0, atol=1e-3)


def test_after_a_failure_the_next_pictures_are_judged_rightly(simulate, monkeypatch):
    made = simulate(copy_seconds=0.02)
    images = sample_tiles(256, 256, 12)
    launch = made.engine._runner.run
    calls = []

    def fail_once(key):
        calls.append(key)
        if len(calls) == 2:
            raise CudaError("a launch that failed")
        launch(key)

    monkeypatch.setattr(made.engine._runner, "run", fail_once)
    with pytest.raises(CudaError, match="a launch that failed"):
        made.engine.logits(images)
    # Nothing of it is still running.
    assert [stream.tasks.unfinished_tasks for stream in made.runtime.streams.values()] == [0, 0, 0]
    again = images[::-1]
    np.testing.assert_allclose(made.engine.logits(again), simulate.by_cpu.logits(again), rtol=0, atol=1e-3)


def test_an_engine_that_does_not_fit_is_not_run(simulate):
    with pytest.raises(UnavailableError, match=r"not run: batches up to 4 need .*--batch 1,2,2") as caught:
        simulate(total=1 << 20)
    assert caught.value.exit_code == 3


def test_the_stated_memory_is_what_it_takes(simulate):
    made = simulate()
    for _ in range(3):
        made.engine.logits(sample_tiles(256, 256, 12))  # three parts
    # The simulated library holds no weights.
    assert made.runtime.held == made.engine.memory.total - made.engine.memory.weights


def test_closing_gives_everything_back(simulate):
    made = simulate()
    for _ in range(3):
        made.engine.logits(sample_tiles(256, 256, 11))
    made.engine.close()
    assert (made.runtime.memory, made.runtime.events, made.runtime.streams, made.runtime.graphs) == ({}, {}, {}, {})


@pytest.fixture
def real_engines(gpu, own_deployment):
    """Engines for the GPU in this machine, with whatever library fits it."""
    from engines.builder import BuildConfig
    from lfm_deploy.deployment.deployment import build_into, choose_target

    config = BuildConfig(batch=(1, 4, 8))
    try:
        target = choose_target(None, None)
    except UnavailableError as error:  # no TensorRT is installed, or none that serves this card
        pytest.skip(str(error))
    return {
        precision: build_into(own_deployment, precision, target, config, on_message=print)[0].engine
        for precision in (Precision.FP32, Precision.FP16)
    }


# As for the exports: FP16 was seen to move logits of this scale by less than 0.05.
TOLERANCE = {Precision.FP32: 1e-3, Precision.FP16: 0.25}


def test_a_real_gpu_makes_the_same_decisions(real_engines, own_deployment):
    images = sample_tiles(256, 256, 27)  # four parts: slots are used again
    expected = load_engine(own_deployment.checkpoint).logits(images)
    for precision, path in real_engines.items():
        engine = load_engine(path)
        for _ in range(4):
            np.testing.assert_allclose(engine.logits(images), expected, rtol=0, atol=TOLERANCE[precision])
        engine.close()


def test_a_real_gpu_gives_the_same_logits_with_and_without_cuda_graphs(real_engines):
    images = sample_tiles(256, 256, 27)
    for path in real_engines.values():
        plain = TensorRTEngine(path, cuda_graphs=False)
        captured = TensorRTEngine(path)
        expected = plain.logits(images)
        for _ in range(4):
            found = captured.logits(images)
        assert captured.uses_cuda_graphs, captured.why_no_cuda_graphs
        assert captured.captured_graphs > 0
        assert plain.captured_graphs == 0
        # The same kernels on the same pictures.
        np.testing.assert_array_equal(found, expected)
        plain.close()
        captured.close()


def test_a_real_gpu_takes_arrays_where_they_lie(real_engines):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch is for the CPU alone")
    images = sample_tiles(256, 256, 11)
    there = torch.from_numpy(images).to("cuda:0")
    for path in real_engines.values():
        engine = load_engine(path)
        # The same kernels; parts are split alike.
        np.testing.assert_array_equal(engine.logits(there), engine.logits(images))
        engine.close()


def test_a_real_gpu_says_where_its_time_goes(real_engines):
    for path in real_engines.values():
        engine = TensorRTEngine(path)
        for _ in range(3):
            times = engine.time_phases(sample_tiles(256, 256, 8))
        assert min(times.host_to_device_ms, times.compute_ms, times.device_to_host_ms, times.enqueue_ms) > 0
        engine.close()
