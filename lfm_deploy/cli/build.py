"""``lfm-deploy build``: typed ONNX files and TensorRT engines, or what runs fastest on this CPU."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfm_deploy.cli.console import (
    FOLDER,
    Choice,
    json_option,
    make_console,
    max_pixels_option,
    print_json,
    progress_bar,
    say,
    workdir_option,
)
from lfm_deploy.workdir import Workdir

if TYPE_CHECKING:
    from calib.findings_schema import Findings
    from engines.builder import BuildConfig
    from engines.way_choice import Choice as WayChoice
    from lfm_deploy.artifacts import Precision
    from lfm_deploy.deployment.deployment import BuildTarget
    from lfm_deploy.progress import Progress


def _parse_batch(_context: click.Context, _option: click.Parameter, text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() for part in parts):
        raise click.BadParameter(f"{text!r} is not MIN,OPT,MAX, such as 1,32,256")
    smallest, optimal, largest = (int(part) for part in parts)
    return smallest, optimal, largest


@click.command("build")
@click.option("--fp16", "precision", flag_value="fp16", help="float16 up to the pooling, the rest float32.")
@click.option("--fp32", "precision", flag_value="fp32", help="float32 throughout, without TF32.")
@click.option(
    "--bf16", "precision", flag_value="bf16", help="bfloat16 up to the pooling, for CPUs that have units for it."
)
@click.option("--int8", "precision", flag_value="int8", help="int8 in as many layers as the budget allows.")
@click.option("--gpu", "gpus", metavar="LIST", help='Compute capabilities or cards: sm86,sm89 or "RTX A6000".')
@click.option(
    "--target",
    type=Choice(["gpu", "cpu", "cuda"]),
    help="gpu: TensorRT engines. cpu, cuda: no engine, but the fastest way to run the graph on this CPU, or on the GPU "
    "in this machine, is measured.  [default: gpu; cpu with --bf16]",
)
@click.option(
    "--library",
    type=Choice(["tensorrt", "tensorrt-rtx"]),
    help="Library to build with.  [default: what fits this machine]",
)
@click.option(
    "--batch",
    metavar="MIN,OPT,MAX",
    default="1,32,256",
    show_default=True,
    callback=_parse_batch,
    help="Smallest, usual and largest batch of an engine.",
)
@click.option("--max-side", type=int, default=1024, show_default=True, help="Largest side of a --dynamic-size graph.")
@click.option("--workspace", "workspace_mib", type=int, default=0, help="Limit on scratch memory in MiB; 0 sets none.")
@click.option(
    "--budget",
    metavar="LIMITS",
    help="With --int8: points of ACC and AP that may be lost, and share of decisions that may flip."
    "  [default: acc=0.2,ap=0.15,flips=0.7%]",
)
@click.option(
    "--layers",
    metavar="search|all|LIST",
    help="With --int8: 'search' finds the layers; 'all' takes every layer, and marks a graph that breaks the budget; "
    "or name layers, such as conv3,conv4.  [default: search]",
)
@click.option(
    "--force", is_flag=True, help="With --int8 and tensorrt-rtx: build the fastest choice even where FP16 is faster."
)
@click.option(
    "--version-compatible",
    is_flag=True,
    help="With tensorrt: an engine that newer versions load too, and its lean runtime (45 MB) alone.",
)
@click.option(
    "--as-exported",
    is_flag=True,
    help="With tensorrt-rtx: build from the graph as it was exported, not from the form whose kernels move less.",
)
@click.option("--images", type=FOLDER, help="With --int8: where the calibration pictures are now, if they moved.")
@max_pixels_option
@workdir_option
@json_option
def command(
    precision: str | None,
    gpus: str | None,
    target: str | None,
    library: str | None,
    batch: tuple[int, int, int],
    max_side: int,
    workspace_mib: int,
    budget: str | None,
    layers: str | None,
    force: bool,
    version_compatible: bool,
    as_exported: bool,
    images: Path | None,
    workdir: Workdir,
    as_json: bool,
) -> None:
    """Build FP32, FP16, BF16 or INT8: an ONNX file of that precision, and TensorRT engines from it.

    Engines are for the GPU in this machine. Without one, TensorRT-RTX builds ahead of time for --gpu, by default for
    sm86, sm89 and sm120. Each engine has a sidecar (.json) and a build log; they appear together.

    --target cpu measures which runtime, threads and streams run the graph fastest on this machine, and writes them down
    (cpu.json); they are used wherever the graph is opened on this machine. --target cuda does so for the GPU in this
    machine (gpu.json), with ONNX Runtime and, for FP16, kernels of our own.

    --bf16 is for processors with AMX or AVX512-BF16, and runs in OpenVINO.

    --int8 needs ranges from 'lfm-deploy calibrate'. It searches the layers that can be INT8 within the budget, says
    why each has its precision (precision.json), and writes nothing where no choice keeps to it. For tensorrt-rtx it
    takes the fastest choice by the kernels that the library lists; where none beats FP16, it builds nothing and says
    so, with exit code 1.
    """
    if precision is None:
        raise click.UsageError("say which precision: --fp16, --bf16, --int8 or --fp32")
    if precision != "int8" and (budget or layers or images or force):
        raise click.UsageError("--budget, --layers, --force and --images are for --int8")
    target = target or ("cpu" if precision == "bf16" else "gpu")
    if precision == "bf16" and target != "cpu":
        raise click.UsageError("--bf16 is for --target cpu; on a GPU, --fp16 is as fast and more exact")
    if target != "gpu" and (gpus or library or version_compatible or as_exported or force):
        raise click.UsageError(
            f"--target {target} takes none of --gpu, --library, --version-compatible, --as-exported and --force"
        )
    from lfm_deploy.artifacts import Precision

    if target != "gpu":
        findings = None
        if precision == "int8":
            from lfm_deploy.cli.int8 import quantise

            findings = quantise(workdir, target, budget, layers or "search", images, as_json)
        _make_graph(workdir, Precision(precision), target, findings, as_json)
        return
    from engines.builder import BuildConfig, check_build
    from engines.gpus import parse_gpus
    from lfm_deploy.deployment.deployment import choose_target

    config = BuildConfig(
        batch=batch,
        max_side=max_side,
        workspace_mib=workspace_mib,
        version_compatible=version_compatible,
        as_exported=as_exported,
    )
    chosen = choose_target(parse_gpus(gpus) if gpus else None, library)
    check_build(chosen.library, chosen.gpus, config)  # what cannot be built is said before the search for layers
    if precision == "int8":
        chosen = _quantise(workdir, chosen, budget, layers or "search", images, force, as_json)
    _build(workdir, Precision(precision), chosen, config, as_json)


def _quantise(
    workdir: Workdir,
    target: "BuildTarget",
    budget: str | None,
    layers: str,
    images: Path | None,
    force: bool,
    as_json: bool,
) -> "BuildTarget":
    """Make the INT8 graph; the target, without the GPUs on which FP16 is faster."""
    from dataclasses import replace

    from calib.layer_times import RtxTarget, gpus_worth_building
    from lfm_deploy.cli.int8 import quantise

    rtx = RtxTarget(target.library, target.gpus, force) if target.library.is_rtx else None
    findings = quantise(workdir, "gpu", budget, layers, images, as_json, rtx)
    if rtx is None:
        return target
    kept = gpus_worth_building(findings, rtx)
    for gpu in (gpu for gpu in target.gpus if gpu not in kept):
        say(f"{gpu}: INT8 is not faster than FP16 there, so no engine is built; --force builds it")
    return replace(target, gpus=kept)


def _build(
    workdir: Workdir, precision: "Precision", target: "BuildTarget", config: "BuildConfig", as_json: bool
) -> None:
    """Build the engines of a target and print what they are."""
    from lfm_deploy.cli.engine_tables import engine_values, print_advice, print_engines
    from lfm_deploy.deployment.deployment import build_into

    say(f"{target.reason}: {target.library.name} {target.library.version} for {', '.join(target.gpus)}")
    with progress_bar() as update:
        results = build_into(
            workdir,
            precision,
            target,
            config,
            on_message=say,
            on_progress=lambda gpu, step: (
                update(f"{gpu}: building", step.done, step.steps) if not step.nested else None
            ),
        )
    if config.version_compatible:
        say("version-compatible engines were not run on a GPU when this version of lfm-deploy was tested")
    if as_json:
        print_json([engine_values(result) for result in results])
        return
    print_engines(results)
    print_advice(workdir, target.gpus)


def _make_graph(workdir: Workdir, precision: Any, target: str, findings: "Findings | None", as_json: bool) -> None:
    """The graph for the CPU, or for the GPU in this machine, and what runs it fastest here."""
    from lfm_deploy.deployment.deployment import make_typed_graph
    from lfm_deploy.quantisation import Recipe

    if target == "cuda":
        from engines.gpus import find_gpu

        find_gpu()  # without one, nothing is made
    recipe = Recipe.CPU if target == "cpu" else Recipe.TENSORRT
    with workdir.lock(say):
        path = make_typed_graph(workdir, precision, say) if findings is None else workdir.graph(precision, recipe)
        with progress_bar() as update:
            choice = _choose(workdir, path, target, update)
    if as_json:
        values = {"file": str(path), "bytes": path.stat().st_size, target: choice.as_dict()}
        print_json(values if findings is None else values | {"quantisation": findings})
    else:
        click.echo(f"{path}: {path.stat().st_size / 2**20:.1f} MiB, for {'the CPU' if target == 'cpu' else 'this GPU'}")
        _print_choice(choice)


def _choose(workdir: Workdir, graph: Path, target: str, update: "Progress") -> "WayChoice[Any]":
    if target == "cpu":
        from engines.cpu_choice import choose_cpu_settings

        return choose_cpu_settings(workdir, graph, on_progress=update)
    from engines.gpu_choice import choose_gpu_settings

    return choose_gpu_settings(workdir, graph, on_progress=update)


def _print_choice(choice: "WayChoice[Any]") -> None:
    from rich.text import Text

    from lfm_deploy.report.tables import make_table

    table = make_table("ways to run it on this machine, in turns", "way")
    for heading in ("pictures/s", "to the first", "max |Δlogit|"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in choice.tried:
        chosen = row.settings == choice.chosen
        figures = ("-", "-") if row.fps is None else (f"{row.fps:.0f}", f"{row.ratio:.2f} x")
        error = "-" if row.max_error is None else f"{row.max_error:.2g}"
        name = str(row.settings) if row.fps is not None else f"{row.settings}: {row.rejected}"
        table.add_row(Text(name, style="bold green" if chosen else ""), *figures, error)
    make_console().print(table)
    click.echo(f"chosen: {choice.chosen}; {choice.why}")
