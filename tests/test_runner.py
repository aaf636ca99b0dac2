import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from simulated_cuda import SimulatedRuntime
from simulated_tensorrt import SimulatedContext, SimulatedPlan, simulate_library

from engines.cpu_settings import default_settings
from engines.cuda_graphs import GraphKey
from engines.gpus import Gpu
from engines.library import load_library
from engines.memory import CudaError, DeviceBuffer, load_runtime
from engines.ort import OrtEngine
from engines.runner import Runner
from lfm_deploy.artifacts import Precision
from lfm_deploy.engine_info import read_engine_info
from lfm_deploy.errors import ArtifactError, ShapeError, UnavailableError

HERE = Gpu(index=0, name="Simulated", sm="sm86")


class Setting:
    """A runner of a real plan's sidecar on a simulated device, and what a test looks at."""

    def __init__(self, deployment, *, total=8 << 30, can_capture=True, lazy_memory=False, cuda_graphs=True, refuses=()):
        self.path = deployment.engine(Precision.FP16, "sm86")
        self.info = read_engine_info(self.path)
        self.runtime = SimulatedRuntime(total, can_capture=can_capture)
        self.graph_engine = OrtEngine(deployment.graph(Precision.FP16), settings=default_settings(1))
        self.graph_engine.batch_range = self.info.batch[0], self.info.batch[2]
        self.plan = SimulatedPlan(self.runtime, self.graph_engine, 1 << 20, lazy_memory=lazy_memory, refuses=refuses)
        self.library = simulate_library(load_library("tensorrt-rtx"), self.plan)
        self.runner = Runner(self.path, self.info, self.library, self.runtime, HERE, cuda_graphs=cuda_graphs)
        self.image = DeviceBuffer(self.runtime, 8 * 256 * 256 * 3)
        self.logit = DeviceBuffer(self.runtime, 32)

    def run(self, batch, seed=0):
        """Logits of random pictures, and the same by the engine that the plan stands on."""
        images = np.random.default_rng(seed).integers(0, 256, (batch, 256, 256, 3), dtype=np.uint8)
        self.image_view[: images.size] = images.reshape(-1)
        self.runner.run(GraphKey(images.shape, self.image.address, self.logit.address))
        self.runner.stream.synchronize()
        assert self.runtime.failures == []
        return self.logit_view[:batch].copy(), self.graph_engine.logits(images)

    @property
    def image_view(self):
        return np.ctypeslib.as_array(self.runtime.memory[self.image.address][2])

    @property
    def logit_view(self):
        return np.ctypeslib.as_array(self.runtime.memory[self.logit.address][2]).view(np.float32)


def test_a_size_runs_plainly_then_is_captured_then_replayed(deployment):
    setting = Setting(deployment)
    seen = []
    for seed in range(4):
        found, expected = setting.run(3, seed)
        np.testing.assert_array_equal(found, expected)  # each with pictures of its own
        seen.append((setting.runner.graphs, setting.runtime.launches))
    assert seen == [(0, 0), (1, 0), (1, 1), (1, 2)]


def test_a_graph_outlives_runs_of_other_sizes_because_its_context_is_its_own(deployment):
    setting = Setting(deployment)
    for batch in (2, 3, 2, 3, 2, 3, 4, 2, 3):
        found, expected = setting.run(batch, seed=batch)
        np.testing.assert_array_equal(found, expected)
    assert setting.runner.graphs == 2
    assert setting.plan.contexts == 3


def test_without_cuda_graphs_nothing_is_captured(deployment):
    setting = Setting(deployment, cuda_graphs=False)
    for seed in range(3):
        found, expected = setting.run(2, seed)
        np.testing.assert_array_equal(found, expected)
    assert (setting.runner.graphs, setting.runtime.launches, setting.plan.contexts) == (0, 0, 1)
    assert "not asked for" in setting.runner.why_no_graphs


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"can_capture": False}, "CUDA error 901"),
        ({"lazy_memory": True}, "lfm-deploy build --fp16 --gpu sm86"),
        ({"refuses": ("capture",)}, "refuses to run while it is captured"),
    ],
)
def test_an_engine_that_cannot_be_captured_runs_without_and_says_so_once(deployment, caplog, broken, words):
    setting = Setting(deployment, **broken)
    assert setting.runner.why_no_graphs is None  # not tried yet
    with caplog.at_level(logging.WARNING):
        for seed in range(4):
            found, expected = setting.run(2, seed)
            np.testing.assert_array_equal(found, expected)
    assert words in setting.runner.why_no_graphs
    assert len(caplog.records) == 1
    assert words in caplog.text
    assert setting.plan.contexts == 2


def test_a_run_that_the_library_refused_inside_a_capture_leaves_no_graph(deployment):
    """CUDA ends such a capture without an error: the graph is empty, and its logits would never change."""
    setting = Setting(deployment, refuses=("capture",))
    logits = [setting.run(2, seed) for seed in range(4)]
    assert setting.runtime.launches == 0
    assert setting.runtime.graphs == {}
    assert not np.array_equal(logits[2][0], logits[3][0])


def test_a_tensor_that_the_library_does_not_place_is_an_error(deployment):
    setting = Setting(deployment, refuses=("logit",))
    with pytest.raises(CudaError, match=r"does not take logit at 0x.*lfm-deploy build --fp16 --gpu sm86"):
        setting.run(2)


def test_graphs_into_freed_memory_are_dropped(deployment):
    setting = Setting(deployment)
    for _ in range(2):
        setting.run(2)
    setting.runner.forget(setting.logit)
    assert setting.runner.graphs == 0
    assert setting.runtime.graphs == {}


def test_kernels_stay_what_they_are_and_memory_is_ours(deployment):
    setting = Setting(deployment)
    assert setting.plan.settings.dynamic_shapes_kernel_specialization_strategy == "eager"
    assert [kind for kind, nbytes, _ in setting.runtime.memory.values() if nbytes == 1 << 20] == ["device"]


def test_a_shape_outside_the_profile_is_refused(deployment):
    setting = Setting(deployment)
    with pytest.raises(ShapeError, match=r"does not take \(9, 256, 256, 3\)"):
        setting.runner.run(GraphKey((9, 256, 256, 3), setting.image.address, setting.logit.address))


def test_what_does_not_fit_is_refused_before_anything_is_allocated(deployment):
    with pytest.raises(UnavailableError, match=r"MiB of GPU memory .*Simulated has 4\.0 of 4\.0 MiB free"):
        Setting(deployment, total=4 << 20)


def test_what_the_loaded_engine_needs_beyond_the_log_is_refused_too(deployment):
    setting = Setting(deployment)
    setting.plan.device_memory_size_v2 = 16 << 30
    before = setting.runtime.held
    with pytest.raises(UnavailableError, match=r"activations 16384\.0"):
        Runner(setting.path, setting.info, setting.library, setting.runtime, HERE, cuda_graphs=True)
    assert setting.runtime.held == before


def test_a_plan_that_the_library_refuses_names_the_command(deployment):
    setting = Setting(deployment)
    refusing = simulate_library(load_library("tensorrt-rtx"), None)
    with pytest.raises(ArtifactError, match="cannot load it: it gave no reason; run 'lfm-deploy build --fp16"):
        Runner(setting.path, setting.info, refusing, setting.runtime, HERE, cuda_graphs=True)


@pytest.mark.parametrize("compatible", [False, True])
def test_code_in_a_plan_is_allowed_only_where_the_sidecar_says_that_it_is_there(deployment, compatible):
    setting = Setting(deployment)
    runtimes = []

    def make_runtime(logger):
        runtimes.append(SimpleNamespace(deserialize_cuda_engine=lambda content: setting.plan))
        return runtimes[-1]

    setting.library.module.Runtime = make_runtime
    info = replace(setting.info, loads_in=("tensorrt >= 11.0", "tensorrt-lean >= 11.0") if compatible else ("a == 1",))
    Runner(setting.path, info, setting.library, setting.runtime, HERE, cuda_graphs=True)
    assert getattr(runtimes[0], "engine_host_code_allowed", False) is compatible


def test_closing_frees_all_that_it_allocated(deployment):
    setting = Setting(deployment)
    for _ in range(2):
        setting.run(2)
    setting.runner.close()
    setting.image.close()
    setting.logit.close()
    assert (setting.runtime.memory, setting.runtime.graphs, setting.runtime.streams) == ({}, {}, {})


def test_without_a_driver_the_real_runtime_says_so(deployment, no_gpu):
    setting = Setting(deployment)
    with pytest.raises(CudaError, match=r"asking how much GPU memory is free: .*CUDA error 35"):
        Runner(setting.path, setting.info, load_library("tensorrt-rtx"), load_runtime(), HERE, cuda_graphs=True)


def test_the_simulated_plan_has_members_of_the_real_one(deployment):
    """Else tests against it would prove nothing about the calls that are made."""
    api = load_library("tensorrt-rtx").module
    for simulated, real in ((SimulatedPlan, api.ICudaEngine), (SimulatedContext, api.IExecutionContext)):
        for name in [name for name in vars(simulated) if not name.startswith("_")]:
            assert hasattr(real, name), name
    settings = Setting(deployment).plan.create_runtime_config()
    for name in vars(settings):
        assert hasattr(api.IRuntimeConfig, name), name
    assert hasattr(api.ICudaEngine, "device_memory_size_v2")
    assert hasattr(api.ExecutionContextAllocationStrategy, "USER_MANAGED")
    assert hasattr(api.DynamicShapesKernelSpecializationStrategy, "EAGER")
