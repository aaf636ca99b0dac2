"""One builder for tensorrt 10.12+, tensorrt 11 and tensorrt-rtx: typed ONNX in, engine and sidecar out.

It sets no precision flag on any version: precision is in the graph. Engines of tensorrt are for the GPU in this
machine; tensorrt-rtx builds ahead of time for others, without a GPU and without a driver.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engines.build_progress import BuildProgress
from engines.graph_forms import EXPORTED, is_better, list_forms
from engines.kernel_list import read_kernels
from engines.library import RUNTIMES, Library, LogLine
from engines.plans import BuildConfig, Plan, build_plan, profile_sides
from engines.targets import check_targets
from lfm_deploy.artifacts import GraphInfo, read_graph_info
from lfm_deploy.engine_info import EngineInfo, make_fingerprint, sidecar_path
from lfm_deploy.errors import ConfigError
from lfm_deploy.kernels import Kernel
from lfm_deploy.storage.atomic import sha256_of_bytes, sha256_of_file, write_together

__all__ = ["BuildConfig", "BuildResult", "BuiltForm", "build_engine", "build_fastest"]

_ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+)")
_WEIGHTS = re.compile(r"Total Weights Memory: (\d+)")


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
    check_build(library, [gpu], config)
    source = read_graph_info(graph)
    started = time.perf_counter()
    built = build_fastest(graph.read_bytes(), graph.name, source, library, gpu, config, timing_cache, on_progress)
    seconds = time.perf_counter() - started
    info = _describe_engine(graph, source, library, gpu, config, built, seconds)
    log_path = output.with_suffix(".build.log")
    sidecar = sidecar_path(output)
    log_text = "\n".join(f"{line.severity}: {line.text}" for line in built.plan.lines) + "\n"
    write_together({log_path: log_text.encode(), sidecar: info.to_json().encode(), output: built.plan.content})
    return BuildResult(engine=output, sidecar=sidecar, log=log_path, info=info)


@dataclass(frozen=True, slots=True)
class BuiltForm:
    """A plan, the form of the graph that it was built from, and its kernels.

    Attributes:
        plan: plan with the library's messages.
        form: form of the graph: ``"exported"``, or ``"rewritten"`` for tensorrt-rtx.
        kernels: kernels of the engine; None where the library does not list them.
    """

    plan: Plan
    form: str
    kernels: tuple[Kernel, ...] | None


def build_fastest(
    content: bytes,
    name: str,
    source: GraphInfo,
    library: Library,
    gpu: str,
    config: BuildConfig,
    timing_cache: Path | None = None,
    on_progress: Callable[[BuildProgress], None] | None = None,
) -> BuiltForm:
    """Build a graph in the form whose kernels are fastest at best; for arguments and errors see ``build_plan``."""
    forms = {EXPORTED: content}
    if library.is_rtx and not config.as_exported and source.contract.size != "native":
        forms = list_forms(content)
    best: BuiltForm | None = None
    for form, graph in forms.items():
        plan = build_plan(graph, name, source, library, gpu, config, timing_cache, on_progress)
        built = BuiltForm(plan, form, read_kernels(line.text for line in plan.lines) if library.is_rtx else None)
        if best is None or is_better(built.kernels, best.kernels, gpu, config.batch[2]):
            best = built
    assert best is not None  # noqa: S101  # there is at least the form that was exported
    return best


def check_build(library: Library, gpus: Sequence[str], config: BuildConfig) -> None:
    """Refuse what a library cannot build, before anything is built.

    Args:
        library: library that is to build.
        gpus: compute capabilities, such as ``["sm86"]``.
        config: settings of the build.

    Raises:
        ConfigError: an option is not for this library.
        UnavailableError: the library does not serve a GPU.
    """
    check_targets(library, gpus)
    if config.version_compatible and library.is_rtx:
        raise ConfigError(
            "--version-compatible is for tensorrt: an engine of tensorrt-rtx loads only in the version that built it, "
            "and there is no lean runtime for it; leave the option out, or build with --library tensorrt on the GPU"
        )


def _describe_engine(
    graph: Path,
    source: GraphInfo,
    library: Library,
    gpu: str,
    config: BuildConfig,
    built: BuiltForm,
    seconds: float,
) -> EngineInfo:
    info = EngineInfo(
        runtime=library.name,
        library_version=library.version,
        gpu=gpu,
        batch=config.batch,
        sides=profile_sides(source, config),
        precision=source.precision,
        input=source.input,
        evidence=source.evidence,
        contract=source.contract,
        config=source.config,
        checkpoint_sha256=source.checkpoint_sha256,
        onnx_sha256=sha256_of_file(graph),
        fingerprint="",
        plan_sha256=sha256_of_bytes(built.plan.content),
        plan_bytes=len(built.plan.content),
        weights_bytes=_logged(built.plan.lines, _WEIGHTS),
        activation_bytes=_logged(built.plan.lines, _ACTIVATIONS),
        workspace_mib=config.workspace_mib,
        build_seconds=round(seconds, 3),
        loads_in=_name_runtimes(library, config),
        form=built.form,
        kernels=built.kernels,
        quantisation=source.quantisation,
    )
    return replace(info, fingerprint=fingerprint_engine(info))


def fingerprint_engine(info: EngineInfo) -> str:
    """SHA-256 over everything that went into an engine; see ``EngineInfo``.

    Args:
        info: contents of the sidecar; its own fingerprint plays no part.
    """
    return make_fingerprint(
        onnx=info.onnx_sha256,
        library=f"{info.runtime} {info.library_version}",
        gpu=info.gpu,
        batch=info.batch,
        sides=info.sides,
        workspace_mib=info.workspace_mib,
        user_allocation=info.runtime == "tensorrt-rtx",
        form=info.form,
        version_compatible=any(" >= " in one for one in info.loads_in),
    )


def _name_runtimes(library: Library, config: BuildConfig) -> tuple[str, ...]:
    if not config.version_compatible:
        return (f"{library.name} == {library.version}",)
    return tuple(f"{name} >= {library.version}" for name in (library.name, *RUNTIMES))


def _logged(lines: list[LogLine], pattern: re.Pattern[str]) -> int | None:
    found = [match for line in lines if (match := pattern.search(line.text))]
    return int(found[-1][1]) if found else None
