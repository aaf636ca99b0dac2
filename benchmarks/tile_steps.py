"""Where the time of a picture goes in the kernels for AMX: milliseconds of one core by step, and what bounds them.

Each step runs alone, over and over, on maps that an earlier run left; the shortest time counts. The limit is what the
units multiply with tiles that stay in their registers, measured in the same turns.

    python benchmarks/tile_steps.py --workdir deploy --seconds 20
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from engines.amx import forward
from engines.amx.first_stage import run_first_row
from engines.amx.graphs import read_layers
from engines.amx.network import Network, Workspace, make_network, make_workspace
from engines.amx.peak import multiply_tiles
from engines.amx.selection import judge_maps
from engines.amx.shapes import FIRST_STAGE, ROW_BYTES
from engines.amx.tiles import configure
from engines.amx.units import request_tiles
from lfm_deploy.artifacts import Precision
from lfm_deploy.machine import read_processor
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.quantisation import Recipe
from lfm_deploy.workdir import Workdir

_SIDE = 256
_PEAK_TIMES = 2000


@njit(nogil=True)
def _run_first(like: Any, pixels: Any, ends: Any, places: Any, room: Any) -> None:
    configure(ends.configurations + ROW_BYTES * FIRST_STAGE)
    below = pixels.strides[0]
    for row in range(places[0, 3]):
        to = forward.find_place(places, 0, row, 0, ends, room)
        run_first_row(like, pixels.ctypes.data + 2 * row * below, below, places[0, 4], ends, room, to)


@njit(nogil=True)
def _run_stage(like: Any, pixels: Any, ends: Any, stages: Any, places: Any, index: int, room: Any) -> None:
    forward.run_stage(like, pixels.ctypes.data, pixels.strides[0], ends, stages, places, index, room)


def main() -> None:
    """Measure and print a table for each graph."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, default=Path("deploy"))
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    if not request_tiles():
        parser.exit(3, "Error: the system gives no tile registers\n")
    workdir = Workdir(options.workdir)
    graphs = {"bf16": workdir.graph(Precision.BF16), "int8": workdir.graph(Precision.INT8, Recipe.CPU)}
    graphs = {kind: path for kind, path in graphs.items() if path.is_file()}
    if not graphs:
        parser.exit(2, f"Error: {workdir.path}: no BF16 or INT8 graph; 'lfm-deploy build --bf16' makes one\n")
    print(f"{read_processor()}, one core")
    for kind, path in graphs.items():
        measure(kind, path, options.seconds)


def measure(kind: str, path: Path, seconds: float) -> None:
    """Print the steps of one graph."""
    network = make_network(read_layers(path))
    steps = list_steps(network, make_workspace(network, _SIDE, _SIDE))
    best = dict.fromkeys(steps, float("inf"))
    for step in steps.values():
        step()  # compiles it
    multiply_tiles(kind, 1)
    rate, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            best[name] = min(best[name], time.perf_counter() - started)
        started = time.perf_counter()
        operations = multiply_tiles(kind, _PEAK_TIMES)
        rate = max(rate, operations / (time.perf_counter() - started))
    work = network.info.config.multiply_adds(_SIDE, _SIDE)
    *counts, last, projection = [work[name] for name in network.info.config.layers]
    print(f"\n| {kind}: step | ms | share of {rate / 1e9:,.0f} GOP/s |\n|---|--:|--:|")
    first = best["first stage"]
    best["second convolution"] -= first  # which makes the first stage's rows as it goes
    for (name, took), count in zip(best.items(), [*counts, last + projection, 0], strict=True):
        share = f"{2 * count / took / rate:.0%}" if count else ""
        print(f"| {name} | {took * 1e3:.2f} | {share} |")
    whole = sum(best.values())
    print(f"| all | {whole * 1e3:.2f} | {2 * (sum(counts) + last + projection) / whole / rate:.0%} |")


def list_steps(network: Network, space: Workspace) -> dict[str, Callable[[], object]]:
    """Steps by name, each a function that runs it once."""
    like, ends, stages = network.dtype.type(0), network.ends, network.stages
    pixels = np.ascontiguousarray(sample_tiles(_SIDE, _SIDE, 1)).reshape(_SIDE, 3 * _SIDE)
    steps: dict[str, Callable[[], object]] = {
        "first stage": lambda: _run_first(like, pixels, ends, space.places, space.room)
    }
    names = ["second convolution", "third convolution", "fourth convolution and projection"]
    for index, name in enumerate(names[: len(stages)]):
        steps[name] = partial(_run_stage, like, pixels, ends, stages, space.places, index, space.room)
    room = space.room
    steps["Top-K and linear layer"] = lambda: judge_maps(
        room.projected, room.positions, network.linear, ends.linear_bias, space.largest
    )
    return steps


if __name__ == "__main__":
    main()
