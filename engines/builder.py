"""One builder for tensorrt 10.12+, tensorrt 11 and tensorrt-rtx: typed ONNX in, engine and sidecar out.

It sets no precision flag on any version: precision is in the graph. Engines of tensorrt are for the GPU in this
machine; tensorrt-rtx builds ahead of time for others, without a GPU and without a driver.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.build_progress import BuildProgress, make_monitor
from engines.library import Library, LogLine
from engines.targets import check_targets, list_targets
from lfm_deploy.artifacts import EngineInfo, GraphInfo, InputForm, make_fingerprint, read_graph_info, sidecar_path
from lfm_deploy.errors import BuildError, ConfigError, UnavailableError
from lfm_deploy.interrupts import hold_interrupts
from lfm_deploy.storage.atomic import sha256_of_bytes, sha256_of_file, write_atomically, write_together

if TYPE_CHECKING:
    import tensorrt as trt  # for types alone: the library in use comes as an argument

_ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+)")
_WEIGHTS = re.compile(r"Total Weights Memory: (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildConfig:
    """How to build one engine. Units are in the field names.

    Attributes:
        batch: smallest, optimal and largest batch.
        max_side: largest height and width in pixels; used only by graphs that take native sizes.
        workspace_mib: limit on scratch memory; 0 leaves the library's own limit.
    """

    batch: tuple[int, int, int] = (1, 32, 256)
    max_side: int = 1024
    workspace_mib: int = 0

    def __post_init__(self) -> None:
        """Refuse a profile that no engine can have."""
        smallest, optimal, largest = self.batch
        if not 1 <= smallest <= optimal <= largest:
            raise ConfigError(f"--batch {smallest},{optimal},{largest}: need 1 <= MIN <= OPT <= MAX")
        if self.max_side < 256 or self.max_side % 2:
            raise ConfigError(f"--max-side {self.max_side}: need an even number of at least 256 pixels")
        if self.workspace_mib < 0:
            raise ConfigError(f"--workspace {self.workspace_mib}: need 0 or more MiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What a build made: engine, sidecar and log, and what the sidecar says.

    Attributes:
        engine: path of the engine file.
        sidecar: path of the JSON file beside it.
        log: path of the build log.
        info: contents of the sidecar.
    """

    engine: Path
    sidecar: Path
    log: Path
    info: EngineInfo


def build_engine(
    graph: Path | str,
    output: Path | str,
    library: Library,
    gpu: str,
    config: BuildConfig | None = None,
    *,
    timing_cache: Path | None = None,
    on_progress: Callable[[BuildProgress], None] | None = None,
) -> BuildResult:
    """Build an engine; it, its sidecar and its log appear together or not at all.

    Args:
        graph: typed ONNX file made by lfm-deploy.
        output: the engine file to write.
        library: library that builds, from ``load_library``.
        gpu: compute capability such as ``"sm86"``; for tensorrt it must be this machine's.
        config: batch profile and limits; None for the defaults of ``BuildConfig``.
        timing_cache: file of TensorRT's timing cache; tensorrt-rtx has none.
        on_progress: function that is given each step as the build proceeds, also from the library's own threads.

    Raises:
        ArtifactError: the ONNX file is not ours.
        UnavailableError: the library cannot build for this GPU.
        BuildError: the library refused; the message has its own words.
        KeyboardInterrupt: the build was cancelled with Ctrl-C.
    """
    graph, output, config = Path(graph), Path(output), config or BuildConfig()
    source = read_graph_info(graph)
    library.sink.lines.clear()
    started = time.perf_counter()
    plan = _build_plan(graph, source, library, gpu, config, timing_cache, on_progress)
    seconds = time.perf_counter() - started
    info = _describe_engine(graph, source, library, gpu, config, plan, seconds)
    log_path = output.with_suffix(".build.log")
    sidecar = sidecar_path(output)
    log_text = "\n".join(f"{line.severity}: {line.text}" for line in library.sink.lines) + "\n"
    write_together({log_path: log_text.encode(), sidecar: info.to_json().encode(), output: plan})
    return BuildResult(engine=output, sidecar=sidecar, log=log_path, info=info)


def _build_plan(
    graph: Path,
    source: GraphInfo,
    library: Library,
    gpu: str,
    config: BuildConfig,
    timing_cache: Path | None,
    on_progress: Callable[[BuildProgress], None] | None,
) -> bytes:
    api: Any = library.module
    with hold_interrupts() as cancelled:  # its logger and monitor are Python code that C++ calls
        builder: trt.Builder = api.Builder(library.logger)
        if builder is None:
            raise BuildError(f"{library.name}: no builder: {_errors(library)}")
        network = _parse(graph, builder, library)
        options = make_options(builder, source, library, gpu, config, timing_cache)
        # The monitor must outlive the build, so it has a name of its own.
        monitor = make_monitor(api, cancelled, on_progress)
        options.progress_monitor = monitor
        plan = builder.build_serialized_network(network, options)
    if plan is None:
        raise BuildError(f"{library.name} {library.version} cannot build {graph.name} for {gpu}: {_errors(library)}")
    if not library.is_rtx and timing_cache is not None:
        with write_atomically(timing_cache) as temporary:
            temporary.write_bytes(bytes(options.get_timing_cache().serialize()))
    return bytes(plan)


def make_options(
    builder: "trt.Builder",
    source: GraphInfo,
    library: Library,
    gpu: str,
    config: BuildConfig,
    timing_cache: Path | None = None,
) -> "trt.IBuilderConfig":
    """The library's build options: profile, limits, target; TF32 off, and no precision flag at all.

    Raises:
        UnavailableError: the library cannot build for this GPU.
    """
    api: Any = library.module
    options = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("image", *(api.Dims(shape) for shape in _profile_shapes(source, config)))
    options.add_optimization_profile(profile)
    options.clear_flag(api.BuilderFlag.TF32)  # on by default; it would round float32 products to 11 bits
    if config.workspace_mib:
        options.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, config.workspace_mib << 20)
    if library.is_rtx:
        _set_target(options, library, gpu)
        # Without it the engine may allocate memory as it runs, which a CUDA graph cannot hold.
        options.set_flag(api.BuilderFlag.REQUIRE_USER_ALLOCATION)
    elif timing_cache is not None:
        content = timing_cache.read_bytes() if timing_cache.is_file() else b""
        options.set_timing_cache(options.create_timing_cache(content), False)
    return options


def _parse(graph: Path, builder: "trt.Builder", library: Library) -> "trt.INetworkDefinition":
    api: Any = library.module
    # TensorRT 10 types a network weakly unless told; 11 and RTX know strong typing only and may drop the flag.
    flag = getattr(api.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser: trt.OnnxParser = api.OnnxParser(network, library.logger)
    if not parser.parse(graph.read_bytes()):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        reasons = "; ".join(f"{error.node_operator()} {error.node_name()}: {error.desc()}" for error in errors)
        raise BuildError(f"{library.name} {library.version} cannot parse {graph.name}: {reasons}")
    return network


def _profile_shapes(source: GraphInfo, config: BuildConfig) -> list[tuple[int, int, int, int]]:
    """Smallest, optimal and largest shape of the input."""
    sides = _sides(source, config)
    shapes: list[tuple[int, int, int, int]] = []
    for index, batch in enumerate(config.batch):
        side = sides[index] if sides else int(source.contract.size)
        shape = (batch, side, side, 3) if source.input is InputForm.UINT8 else (batch, 3, side, side)
        shapes.append(shape)
    return shapes


def _sides(source: GraphInfo, config: BuildConfig) -> tuple[int, int, int] | None:
    return (source.config.min_square, 256, config.max_side) if source.contract.size == "native" else None


def _set_target(options: Any, library: Library, gpu: str) -> None:
    """Aim at one GPU ahead of time; these calls exist in tensorrt-rtx alone."""
    check_targets(library, [gpu])
    options.num_compute_capabilities = 1
    if not options.set_compute_capability(list_targets(library)[gpu], 0):
        raise BuildError(f"tensorrt-rtx refused the target {gpu}")


def _describe_engine(
    graph: Path,
    source: GraphInfo,
    library: Library,
    gpu: str,
    config: BuildConfig,
    plan: bytes,
    seconds: float,
) -> EngineInfo:
    onnx_sha256 = sha256_of_file(graph)
    sides = _sides(source, config)
    return EngineInfo(
        runtime=library.name,
        library_version=library.version,
        gpu=gpu,
        batch=config.batch,
        sides=sides,
        precision=source.precision,
        input=source.input,
        evidence=source.evidence,
        contract=source.contract,
        config=source.config,
        checkpoint_sha256=source.checkpoint_sha256,
        onnx_sha256=onnx_sha256,
        fingerprint=make_fingerprint(
            onnx=onnx_sha256,
            library=f"{library.name} {library.version}",
            gpu=gpu,
            batch=config.batch,
            sides=sides,
            workspace_mib=config.workspace_mib,
            user_allocation=library.is_rtx,
        ),
        plan_sha256=sha256_of_bytes(plan),
        plan_bytes=len(plan),
        weights_bytes=_logged(library.sink.lines, _WEIGHTS),
        activation_bytes=_logged(library.sink.lines, _ACTIVATIONS),
        workspace_mib=config.workspace_mib,
        build_seconds=round(seconds, 3),
        quantisation=source.quantisation,
    )


def _logged(lines: list[LogLine], pattern: re.Pattern[str]) -> int | None:
    found = [match for line in lines if (match := pattern.search(line.text))]
    return int(found[-1][1]) if found else None


def _errors(library: Library) -> str:
    errors = [line.text for line in library.sink.lines if line.severity in ("ERROR", "INTERNAL_ERROR")]
    return "; ".join(errors[-2:]) or "it gave no reason"
