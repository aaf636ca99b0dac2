"""From files to verdicts on the CPU, as a share of what engine and decoder could do if nothing were lost between them.

    python benchmarks/file_to_verdict.py deploy --files 1000
    python benchmarks/file_to_verdict.py deploy --memory

Where decoding and inference share the cores, a second holds at best 1 / (1/engine FPS + 1/decoding FPS) pictures. The
files are judged in slices, and for each slice the three rates are measured in turn in one process, with another one
first each time, so that a machine that slows down slows all of them. The files are tiles of the photographs that ship
with scikit-image and scikit-learn, half PNG, half JPEG, of the size that the graph takes and larger. With --memory,
``predict`` runs in processes of its own over 1,000 and 10,000 files, which are hard links to these.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import click
import numpy as np
from PIL import Image

from engines.host import keep_freed_memory
from engines.loading import load_engine
from lfm_deploy.artifacts import Precision
from lfm_deploy.cli.console import make_console
from lfm_deploy.environment import describe_environment
from lfm_deploy.pictures.images import read_image
from lfm_deploy.pictures.photographs import cut_tiles
from lfm_deploy.pictures.sources import file_source
from lfm_deploy.prediction.judges import open_judge
from lfm_deploy.prediction.prediction import predict_groups
from lfm_deploy.quantisation import Recipe
from lfm_deploy.report.tables import make_table
from lfm_deploy.workdir import Workdir
from training.photographs import TEST_PHOTOGRAPHS, TRAINING_PHOTOGRAPHS, load_named

_ORIGINALS = 120
_COUNTS = (1_000, 10_000)


@click.command()
@click.argument("workdir", type=click.Path(path_type=Path))
@click.option("--files", default=1000, show_default=True)
@click.option("--slice", "slice_files", default=80, show_default=True, help="Files that take turns together.")
@click.option("--spin/--no-spin", default=True, help="Idle threads of the engine that is measured alone wait awake.")
@click.option("--batch", type=int, help="[default: as predict]")
@click.option("--memory", is_flag=True, help="Peak memory of predict over 1,000 and 10,000 files, instead of rates.")
def main(workdir: Path, files: int, slice_files: int, spin: bool, batch: int | None, memory: bool) -> None:
    """Measure and print."""
    keep_freed_memory()
    folder = Workdir(workdir)
    graphs = {
        "FP32": folder.graph(Precision.FP32),
        "BF16": folder.graph(Precision.BF16),
        "INT8": folder.graph(Precision.INT8, Recipe.CPU),
    }
    with tempfile.TemporaryDirectory(prefix="lfm-files-") as temporary:
        originals = make_files(Path(temporary) / "originals", _ORIGINALS)
        for name, path in graphs.items():
            if path.is_file() and memory:
                _print_memory(name, path, originals, Path(temporary))
            elif path.is_file():
                pictures = Path(temporary) / f"{files}"
                link_files(originals, pictures, files)
                _print_rates(name, path, pictures, slice_files, batch, spin=spin)


def make_files(folder: Path, count: int) -> list[Path]:
    """Tiles of photographs as PNG and JPEG by turns; two of three are 256x256, the third is 320x400."""
    folder.mkdir(parents=True, exist_ok=True)
    photographs = [load_named(name) for name in (*TRAINING_PHOTOGRAPHS, *TEST_PHOTOGRAPHS)]
    photographs = [photograph for photograph in photographs if min(photograph.shape[:2]) >= 400]
    tiles = {
        size: [cut_tiles(photograph, *size, 16) for photograph in photographs] for size in ((256, 256), (320, 400))
    }
    paths = []
    for index in range(count):
        size = (320, 400) if index % 3 == 2 else (256, 256)
        tile = tiles[size][index % len(photographs)][index // len(photographs) % 16]
        path = folder / f"{index:04}.{'png' if index // 3 % 2 else 'jpg'}"
        Image.fromarray(tile).save(path, quality=95)
        paths.append(path)
    return paths


def link_files(originals: list[Path], folder: Path, count: int) -> None:
    """``count`` files that are hard links to a few."""
    folder.mkdir(exist_ok=True)
    for index in range(count):
        original = originals[index % len(originals)]
        link = folder / f"{index:05}{original.suffix}"
        if not link.exists():
            os.link(original, link)


def _print_rates(name: str, graph: Path, folder: Path, slice_files: int, batch: int | None, *, spin: bool) -> None:
    paths = sorted(folder.iterdir())
    judge = open_judge(Workdir(graph.parent), engine=graph, device="cpu", batch=batch)
    alone = load_engine(graph, device="cpu", spin=spin)
    side = 256 if judge.size == "native" else judge.size
    images = np.stack([read_image(path, side) for path in paths[: judge.batch]])
    cores = len(os.sched_getaffinity(0))

    def run_engine(chosen: list[Path]) -> None:
        for start in range(0, len(chosen), judge.batch):
            alone.logits(images[: len(chosen) - start])

    def decode(chosen: list[Path]) -> None:
        with ThreadPoolExecutor(cores) as pool:
            for _ in pool.map(lambda path: read_image(path, judge.size), chosen):
                pass

    def run_all(chosen: list[Path]) -> None:
        found = sum(len(rows) for rows in predict_groups(judge, map(file_source, chosen)))
        if found != len(chosen):
            raise RuntimeError(f"{found} rows for {len(chosen)} files")

    works = {"engine": run_engine, "decoding": decode, "file to verdict": run_all}
    run_engine(paths[:slice_files])  # wakes threads, fills caches
    run_all(paths[:slice_files])
    times: dict[str, list[tuple[float, float]]] = {label: [] for label in works}
    for number, start in enumerate(range(0, len(paths), slice_files)):
        chosen = paths[start : start + slice_files]
        labels = list(works)
        for label in labels[number % 3 :] + labels[: number % 3]:
            times[label].append(_measure(partial(works[label], chosen)))
    judge.engine.close()
    environment = describe_environment()
    console = make_console()
    console.print(f"{len(paths)} files, batch {judge.batch}, {cores} cores, {environment['processor']}")
    table = make_table(name, "")
    table.add_column("FPS", justify="right")
    table.add_column("processor ms/picture", justify="right")
    for label, values in times.items():
        wall, processor = np.sum(values, axis=0)
        table.add_row(label, f"{len(paths) / wall:.1f}", f"{processor / len(paths) * 1e3:.2f}")
    console.print(table)
    wall, processor = (np.array([[pair[kind] for pair in values] for values in times.values()]) for kind in (0, 1))
    shares = (wall[0] + wall[1]) / wall[2]
    low, middle, high = np.percentile(shares, (25, 50, 75))
    console.print(
        f"file to verdict: {(wall[0] + wall[1]).sum() / wall[2].sum():.1%} of 1 / (1/engine + 1/decoding)\n"
        f"  by slices: median {middle:.1%}, half of them from {low:.1%} to {high:.1%}"
    )
    if not spin:  # threads that wait awake would count as work of the engine
        share = (processor[0] + processor[1]).sum() / processor[2].sum()
        console.print(f"  by processor time, which other programs on the machine disturb less: {share:.1%}")


def _measure(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds by the clock and of the processors."""
    start, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - used


def _print_memory(name: str, graph: Path, originals: list[Path], temporary: Path) -> None:
    peaks = {}
    for count in _COUNTS:
        folder = temporary / f"{count}"
        link_files(originals, folder, count)
        peaks[count] = _peak_mib([str(folder), "--engine", str(graph)])
    few, many = peaks.values()
    for count, peak in peaks.items():
        print(f"{name}, {count:6} files: predict takes {peak:.0f} MiB at its peak")
    print(f"{name}: {many / few - 1:+.1%}")


def _peak_mib(arguments: list[str]) -> float:
    """Peak resident memory of ``lfm-deploy predict``, by the kernel's account of a child that waits for it."""
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", script, sys.executable, "-m", "lfm_deploy", "predict", *arguments]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) / 1024


if __name__ == "__main__":
    main()
