import json
import signal
import subprocess
import sys
import textwrap

import onnx
import pytest

from engines.builder import BuildConfig, build_engine
from engines.library import load_library
from engines.plans import make_options
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.engine_info import read_engine_info, sidecar_path
from lfm_deploy.errors import ArtifactError, BuildError, ConfigError, UnavailableError
from lfm_deploy.storage.atomic import finish_commits, sha256_of_file
from lfm_deploy.storage.graph_file import seal_graph

CONFIG = BuildConfig(batch=(1, 4, 8))


@pytest.fixture(scope="module")
def library():
    return load_library("tensorrt-rtx")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("gpu", ["sm75", "sm86", "sm89", "sm120"])
def test_engines_are_really_built_ahead_of_time(deployment, library, tmp_path, precision, gpu):
    graph = deployment.graph(Precision(precision))
    steps = []
    result = build_engine(graph, tmp_path / "lfm.engine", library, gpu, CONFIG, on_progress=steps.append)
    info = read_engine_info(result.engine)
    assert info == result.info
    assert (info.runtime, info.gpu, info.batch, info.precision) == ("tensorrt-rtx", gpu, (1, 4, 8), precision)
    assert info.onnx_sha256 == sha256_of_file(graph)
    assert info.contract == read_graph_info(graph).contract
    assert info.plan_bytes == result.engine.stat().st_size > info.weights_bytes > 0
    # The largest activation is the first convolution's output; scratch for 8 pictures is more than one of them.
    assert info.activation_bytes > 255 * 255
    assert "Total Activation Memory" in result.log.read_text()
    assert steps[0].done == 0
    assert steps[-1].done == steps[-1].steps > 0


def test_fp16_needs_less_memory_than_fp32(deployment):
    fp32, fp16 = (
        read_engine_info(deployment.engine(precision, "sm86")) for precision in (Precision.FP32, Precision.FP16)
    )
    assert fp16.weights_bytes < fp32.weights_bytes
    assert fp16.activation_bytes < fp32.activation_bytes


def test_the_fingerprint_is_of_the_inputs_and_the_plan_stays_plain(deployment, library, tmp_path):
    graph = deployment.graph(Precision.FP16)
    first, second = (build_engine(graph, tmp_path / f"{n}.engine", library, "sm86", CONFIG) for n in "ab")
    other = build_engine(graph, tmp_path / "c.engine", library, "sm86", BuildConfig(batch=(1, 4, 16)))
    assert first.info.fingerprint == second.info.fingerprint != other.info.fingerprint
    # TensorRT plans begin with their own magic, not with ours.
    assert b"lfm" not in first.engine.read_bytes()[:64]


def test_a_gpu_that_cannot_be_built_for_names_those_that_can(deployment, library, tmp_path):
    with pytest.raises(UnavailableError, match=r"sm90; it builds for sm75, .*sm120"):
        build_engine(deployment.graph(Precision.FP16), tmp_path / "x.engine", library, "sm90", CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_what_the_library_refuses_leaves_no_file_and_its_own_words(deployment, library, tmp_path):
    model = onnx.load(deployment.graph(Precision.FP32))
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Invented"
    (tmp_path / "odd.onnx").write_bytes(seal_graph(model))
    with pytest.raises(BuildError, match=r"cannot parse odd\.onnx: .*Invented"):
        build_engine(tmp_path / "odd.onnx", tmp_path / "x.engine", library, "sm86", CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["odd.onnx"]


def test_a_graph_that_is_not_ours_is_refused(library, tmp_path):
    foreign = tmp_path / "foreign.onnx"
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [out])), foreign)
    with pytest.raises(ArtifactError, match="was not made by lfm-deploy"):
        build_engine(foreign, tmp_path / "x.engine", library, "sm86", CONFIG)


@pytest.mark.parametrize("batch", [(0, 1, 1), (4, 2, 8), (1, 16, 8)])
def test_an_impossible_profile_is_refused(batch):
    with pytest.raises(ConfigError, match="MIN <= OPT <= MAX"):
        BuildConfig(batch=batch)


KILLED = """
    import os, sys
    from pathlib import Path
    from engines.builder import BuildConfig, build_engine
    from engines.library import load_library

    graph, output, fatal = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    calls = 0

    def counted(function):
        def call(*arguments, **options):
            global calls
            calls += 1
            if calls == fatal:
                os.kill(os.getpid(), 9)
            return function(*arguments, **options)
        return call

    Path.replace, os.fsync = counted(Path.replace), counted(os.fsync)
    build_engine(graph, output, load_library("tensorrt-rtx"), "sm86", BuildConfig(batch=(1, 2, 4)))
    print("finished after", calls)
"""


def test_kill_9_at_any_step_leaves_the_old_engine_or_the_new_one(deployment, library, tmp_path):
    graph, output = deployment.graph(Precision.FP16), tmp_path / "lfm.engine"
    build_engine(graph, output, library, "sm86", CONFIG)
    outcomes = []
    # Steps of the commit: 1 flushes the first file, 6 renames the journal into place, 8 to 10 rename the files.
    for fatal in (1, 6, 8, 10, 99):
        finished = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(graph), str(output), str(fatal)],
            capture_output=True,
            text=True,
            check=False,
        )
        finish_commits(tmp_path)
        # read_engine_info refuses a plan whose sidecar is of another build.
        info = read_engine_info(output)
        outcomes.append(info.batch)
        assert finished.returncode == (0 if fatal == 99 else -signal.SIGKILL), finished.stderr
    new = (1, 2, 4)
    assert outcomes == [CONFIG.batch, CONFIG.batch, new, new, new]


INTERRUPTED = """
    import os, signal, sys
    from pathlib import Path
    from engines.builder import BuildConfig, build_engine
    from engines.library import load_library

    def interrupt(step):
        if step.done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    try:
        build_engine(Path(sys.argv[1]), Path(sys.argv[2]), load_library("tensorrt-rtx"), "sm86",
                     BuildConfig(batch=(1, 4, 8)), on_progress=interrupt)
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_an_interrupt_cancels_the_build_and_leaves_nothing(deployment, tmp_path):
    arguments = [textwrap.dedent(INTERRUPTED), deployment.graph(Precision.FP16), tmp_path / "x.engine"]
    finished = subprocess.run([sys.executable, "-c", *arguments], capture_output=True, text=True, check=True)
    assert finished.stdout == "interrupted\n"
    assert list(tmp_path.iterdir()) == []


INTERRUPTED_IN_ITS_LOGGER = """
    import os, signal, sys
    from pathlib import Path
    from engines.builder import build_engine
    from engines.library import load_library

    class Lines(list):
        def append(self, line):
            os.kill(os.getpid(), signal.SIGINT)
            super().append(line)

    library = load_library("tensorrt-rtx")
    library.sink.lines = Lines()
    try:
        build_engine(Path(sys.argv[1]), Path(sys.argv[2]), library, "sm86")
    except KeyboardInterrupt:
        print("interrupted after", library.sink.lines[0].severity)
"""


def test_an_interrupt_while_the_library_logs_does_not_break_the_process(deployment, tmp_path):
    """Its first message comes while the builder is made; an exception there would end the process with SIGABRT."""
    arguments = [textwrap.dedent(INTERRUPTED_IN_ITS_LOGGER), deployment.graph(Precision.FP16), tmp_path / "x.engine"]
    finished = subprocess.run([sys.executable, "-c", *arguments], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("interrupted after")
    assert list(tmp_path.iterdir()) == []


def test_build_options_set_what_was_asked_and_no_precision(deployment, library):
    api = library.module
    builder = api.Builder(library.logger)
    assert builder.create_builder_config().get_flag(api.BuilderFlag.TF32)  # the default that is wanted off
    source = read_graph_info(deployment.graph(Precision.FP32))
    options = make_options(builder, source, library, "sm89", BuildConfig(batch=(2, 4, 8), workspace_mib=512))
    # Memory is ours to give, or no run could be captured into a CUDA graph; no other flag, and none for precision.
    assert options.flags == 1 << int(api.BuilderFlag.REQUIRE_USER_ALLOCATION)
    assert options.get_memory_pool_limit(api.MemoryPoolType.WORKSPACE) == 512 << 20
    assert options.num_optimization_profiles == options.num_compute_capabilities == 1
    assert options.get_compute_capability(0) == api.ComputeCapability.SM89


def test_a_version_compatible_engine_is_tensorrts_alone(deployment, library, tmp_path):
    config = BuildConfig(batch=(1, 4, 8), version_compatible=True)
    with pytest.raises(ConfigError, match=r"--version-compatible is for tensorrt: .* no lean runtime"):
        build_engine(deployment.graph(Precision.FP16), tmp_path / "x.engine", library, "sm86", config)
    assert list(tmp_path.iterdir()) == []


def test_the_version_flag_is_set_where_it_is_asked_for(deployment, library):
    api = library.module
    builder = api.Builder(library.logger)
    source = read_graph_info(deployment.graph(Precision.FP32))
    options = make_options(builder, source, library, "sm89", BuildConfig(version_compatible=True))
    assert options.get_flag(api.BuilderFlag.VERSION_COMPATIBLE)


def test_the_sidecar_lists_kernels_and_names_the_only_library_that_loads_the_plan(deployment, library):
    info = read_engine_info(deployment.engine(Precision.FP16, "sm86"))
    assert info.loads_in == (f"tensorrt-rtx == {library.version}",)
    assert not info.version_compatible
    assert info.kernels[-1].picture_bytes > 0


def test_the_sidecar_is_json_that_people_can_read(deployment):
    values = json.loads(sidecar_path(deployment.engine(Precision.FP16, "sm86")).read_text())
    assert values["contract"]["threshold"] == 0
    assert values["format"] == "lfm-deploy engine 4"


@pytest.mark.parametrize("gpu", ["sm86", "sm89", "sm120"])
def test_int8_engines_are_built_and_say_which_layers_are_int8(calibrated, library, tmp_path, gpu):
    graph = calibrated.graph(Precision.INT8)
    result = build_engine(graph, tmp_path / f"lfm.int8.{gpu}.engine", library, gpu, CONFIG)
    info = read_engine_info(result.engine)
    assert info.precision is Precision.INT8
    assert info.quantisation == read_graph_info(graph).quantisation
    assert set(info.quantisation.layers.values()) <= {"int8", "fp16"}
