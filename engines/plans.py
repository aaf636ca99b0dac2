"""The calls of TensorRT that turn a typed graph into a plan, the same for tensorrt 10.12+, 11 and tensorrt-rtx.

No precision flag is set on any version: precision is in the graph.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.build_progress import BuildProgress, make_monitor
from engines.library import Library, LogLine
from engines.targets import check_targets, list_targets
from lfm_deploy.artifacts import GraphInfo, InputForm
from lfm_deploy.errors import BuildError, ConfigError
from lfm_deploy.interrupts import hold_interrupts
from lfm_deploy.storage.atomic import write_atomically

if TYPE_CHECKING:
    import tensorrt as trt  # for types alone: the library in use comes as an argument


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildConfig:
    """How to build one engine. Units are in the field names.

    Attributes:
        batch: smallest, optimal and largest batch.
        max_side: largest height and width in pixels; used only by graphs that take native sizes.
        workspace_mib: limit on scratch memory; 0 leaves the library's own limit.
        version_compatible: whether newer versions of the library may load the engine, and its lean runtime; for
            tensorrt alone.
        as_exported: whether tensorrt-rtx gets the graph as it is, and not in the form that moves least.
    """

    batch: tuple[int, int, int] = (1, 32, 256)
    max_side: int = 1024
    workspace_mib: int = 0
    version_compatible: bool = False
    as_exported: bool = False

    def __post_init__(self) -> None:
        """Refuse a profile that no engine can have."""
        smallest, optimal, largest = self.batch
        if not 1 <= smallest <= optimal <= largest:
            raise ConfigError(f"--batch {smallest},{optimal},{largest}: need 1 <= MIN <= OPT <= MAX")
        if self.max_side < 256 or self.max_side % 2:
            raise ConfigError(f"--max-side {self.max_side}: need an even number of at least 256 pixels")
        if self.workspace_mib < 0:
            raise ConfigError(f"--workspace {self.workspace_mib}: need 0 or more MiB")


@dataclass(frozen=True, slots=True)
class Plan:
    """A serialised engine, and what the library said while it was built.

    Attributes:
        content: bytes of the plan.
        lines: messages of the library, in order.
    """

    content: bytes
    lines: list[LogLine]


def build_plan(
    content: bytes,
    name: str,
    source: GraphInfo,
    library: Library,
    gpu: str,
    config: BuildConfig,
    timing_cache: Path | None = None,
    on_progress: Callable[[BuildProgress], None] | None = None,
) -> Plan:
    """Build the plan of a graph for one GPU.

    Args:
        content: typed ONNX file.
        name: name of the graph, for messages.
        source: metadata of the graph.
        library: library that builds.
        gpu: compute capability such as ``"sm86"``; for tensorrt it must be this machine's.
        config: batch profile and limits.
        timing_cache: file of TensorRT's timing cache; tensorrt-rtx has none.
        on_progress: function that is given each step, also from the library's own threads.

    Raises:
        UnavailableError: the library cannot build for this GPU.
        BuildError: the library refused; the message has its own words.
    """
    library.sink.lines.clear()
    api: Any = library.module
    with hold_interrupts() as cancelled:  # its logger and monitor are Python code that C++ calls
        builder: trt.Builder = api.Builder(library.logger)
        if builder is None:
            raise BuildError(f"{library.name}: no builder: {_errors(library)}")
        network = _parse(content, name, builder, library)
        options = make_options(builder, source, library, gpu, config, timing_cache)
        # The monitor must outlive the build, so it has a name of its own.
        monitor = make_monitor(api, cancelled, on_progress)
        options.progress_monitor = monitor
        plan = builder.build_serialized_network(network, options)
    if plan is None:
        raise BuildError(f"{library.name} {library.version} cannot build {name} for {gpu}: {_errors(library)}")
    if not library.is_rtx and timing_cache is not None:
        with write_atomically(timing_cache) as temporary:
            temporary.write_bytes(bytes(options.get_timing_cache().serialize()))
    return Plan(bytes(plan), list(library.sink.lines))


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
    if config.version_compatible:
        options.set_flag(api.BuilderFlag.VERSION_COMPATIBLE)
    if config.workspace_mib:
        options.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, config.workspace_mib << 20)
    if library.is_rtx:
        _set_target(options, library, gpu)
        options.profiling_verbosity = api.ProfilingVerbosity.DETAILED  # the log then lists the kernels
        # Without it the engine may allocate memory as it runs, which a CUDA graph cannot hold.
        options.set_flag(api.BuilderFlag.REQUIRE_USER_ALLOCATION)
    elif timing_cache is not None:
        content = timing_cache.read_bytes() if timing_cache.is_file() else b""
        options.set_timing_cache(options.create_timing_cache(content), False)
    return options


def _parse(content: bytes, name: str, builder: "trt.Builder", library: Library) -> "trt.INetworkDefinition":
    api: Any = library.module
    # TensorRT 10 types a network weakly unless told; 11 and RTX know strong typing only and may drop the flag.
    flag = getattr(api.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser: trt.OnnxParser = api.OnnxParser(network, library.logger)
    if not parser.parse(content):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        reasons = "; ".join(f"{error.node_operator()} {error.node_name()}: {error.desc()}" for error in errors)
        raise BuildError(f"{library.name} {library.version} cannot parse {name}: {reasons}")
    return network


def _profile_shapes(source: GraphInfo, config: BuildConfig) -> list[tuple[int, int, int, int]]:
    """Smallest, optimal and largest shape of the input."""
    sides = profile_sides(source, config)
    shapes: list[tuple[int, int, int, int]] = []
    for index, batch in enumerate(config.batch):
        side = sides[index] if sides else int(source.contract.size)
        shape = (batch, side, side, 3) if source.input is InputForm.UINT8 else (batch, 3, side, side)
        shapes.append(shape)
    return shapes


def profile_sides(source: GraphInfo, config: BuildConfig) -> tuple[int, int, int] | None:
    """Smallest, optimal and largest side of a graph that takes native sizes; None for others."""
    return (source.config.min_square, 256, config.max_side) if source.contract.size == "native" else None


def _set_target(options: "trt.IBuilderConfig", library: Library, gpu: str) -> None:
    """Aim at one GPU ahead of time; these calls exist in tensorrt-rtx alone."""
    check_targets(library, [gpu])
    options.num_compute_capabilities = 1  # type: ignore[attr-defined]  # of tensorrt-rtx alone, as the next
    if not options.set_compute_capability(list_targets(library)[gpu], 0):  # type: ignore[attr-defined]
        raise BuildError(f"tensorrt-rtx refused the target {gpu}")


def _errors(library: Library) -> str:
    errors = [line.text for line in library.sink.lines if line.severity in ("ERROR", "INTERNAL_ERROR")]
    return "; ".join(errors[-2:]) or "it gave no reason"
