"""FPS of the FP32, FP16 and INT8 graphs of a workdir on the CPU, side by side in one process.

"as chosen" is the INT8 graph run as ``build --int8 --target cpu`` chose it; the others are run by defaults.

    python benchmarks/int8_cpu.py deploy --batch 8 --threads 2

Graphs take turns (A B C, A B C, ...), so that a machine that slows down slows all of them, and every round gives a
ratio to FP32. Pixels in, logits out; no decoding.
"""

import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import click
import numpy as np

from engines.loading import load_engine
from engines.openvino import load_core
from engines.ort import open_session
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.cli.console import make_console
from lfm_deploy.environment import describe_environment
from lfm_deploy.quantisation import Recipe
from lfm_deploy.report.tables import make_table
from lfm_deploy.workdir import Workdir


@click.command()
@click.argument("workdir", type=click.Path(path_type=Path))
@click.option("--batch", default=8, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=15, show_default=True)
@click.option("--seconds", default=0.7, show_default=True, help="For each graph in each round.")
def main(workdir: Path, batch: int, threads: int, rounds: int, seconds: float) -> None:
    """Measure and print."""
    folder = Workdir(workdir)
    paths = {
        "FP32": folder.graph(Precision.FP32),
        "FP16": folder.graph(Precision.FP16),
        "INT8 for the CPU": folder.graph(Precision.INT8, Recipe.CPU),
        "INT8 for TensorRT": folder.graph(Precision.INT8, Recipe.TENSORRT),
    }
    size = read_graph_info(paths["FP32"]).contract.size
    side = 256 if size == "native" else size
    images = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    runs = {name: _in_onnxruntime(path, threads, images) for name, path in paths.items() if path.is_file()}
    chosen = paths["INT8 for the CPU"]
    if chosen.is_file():
        engine = load_engine(chosen, threads=threads, spin=False)
        runs["INT8 for the CPU, as chosen"] = lambda: engine.logits(images)
        if find_spec("openvino"):
            runs["INT8 for the CPU, OpenVINO"] = _in_openvino(chosen, images)
    fps: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            fps[name].append(_measure(run, batch, seconds))
    environment = describe_environment()
    console = make_console()
    table = make_table(f"batch {batch}, {threads} threads, {environment['processor']}", "graph")
    for heading in ("FPS, median", "to FP32, median", "lowest", "highest"):
        table.add_column(heading, justify="right")
    for name, values in fps.items():
        ratios = [mine / reference for mine, reference in zip(values, fps["FP32"], strict=True)]
        figures = (statistics.median(ratios), min(ratios), max(ratios))
        table.add_row(name, f"{statistics.median(values):.0f}", *(f"{ratio:.2f}x" for ratio in figures))
    console.print(table)
    console.print(f"onnxruntime {environment['libraries'].get('onnxruntime')}, {rounds} rounds of {seconds} s each")


def _in_onnxruntime(path: Path, threads: int, images: np.ndarray) -> Callable[[], object]:
    # Idle threads that spin would take the cores of whoever has the next turn.
    session = open_session(path, str(path), threads=threads, spin=False)
    return lambda: session.run(["logit"], {"image": images})


def _in_openvino(path: Path, images: np.ndarray) -> Callable[[], object]:
    request = load_core().compile_model(path, "CPU").create_infer_request()
    return lambda: request.infer({"image": images})


def _measure(run: Callable[[], object], batch: int, seconds: float) -> float:
    run()  # wakes its threads
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        run()
        done += batch
    return done / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
