"""FP32, BF16 and INT8 of a workdir on this CPU, in turns: how fast each is, also on a machine that others use.

Beside pictures a second of wall time stand pictures for each second that this process had a core, times cores: what the
engine would do if nobody else worked there, but for caches that others empty. Engines take turns within a second, so
that a ratio meets the same neighbours.

    python benchmarks/matrix_units.py --workdir deploy --seconds 120
"""

import argparse
import statistics
import time
from pathlib import Path

from engines.amx.engine import AmxEngine
from engines.cpu_settings import CpuSettings, default_settings
from engines.engine import Engine
from engines.openvino import OpenVinoEngine
from engines.ort import OrtEngine
from lfm_deploy.artifacts import Precision
from lfm_deploy.machine import count_cores, find_instruction_sets, has_amx, has_bfloat16, read_processor
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.quantisation import Recipe
from lfm_deploy.workdir import Workdir

_TURN_SECONDS = 0.06
_PICTURES = 8


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, default=Path("deploy"))
    parser.add_argument("--seconds", type=float, default=120.0)
    options = parser.parse_args()
    engines = open_engines(Workdir(options.workdir))
    wall, own = take_turns(engines, options.seconds)
    print(f"{read_processor()}, {count_cores()} cores: {' '.join(find_instruction_sets())}")
    plain = next(iter(engines))
    print(
        "| engine | pictures/s | to FP32 | for each second of its own, times cores | to FP32 |\n|---|--:|--:|--:|--:|"
    )
    for name in engines:
        cells = []
        for rates in (wall, own):
            ratio = statistics.median(mine / theirs for mine, theirs in zip(rates[name], rates[plain], strict=True))
            cells.append(f"{statistics.median(rates[name]):.0f} | {ratio:.2f}")
        print(f"| {name} | {' | '.join(cells)} |")


def open_engines(workdir: Workdir) -> dict[str, Engine]:
    """The engines that there are graphs for, FP32 first; each in the ways that were fastest on some machine."""
    cores = count_cores()
    streams = {
        runtime: CpuSettings(runtime=runtime, streams=cores, threads=1, piece=1)
        for runtime in ("onnxruntime", "openvino", "amx")
    }
    fp32, bf16 = workdir.graph(Precision.FP32), workdir.graph(Precision.BF16)
    int8 = workdir.graph(Precision.INT8, Recipe.CPU)
    found: dict[str, Engine] = {
        "ONNX Runtime FP32": OrtEngine(fp32, settings=streams["onnxruntime"], spin=False),
        "ONNX Runtime FP32, all threads on eight": OrtEngine(fp32, settings=default_settings(), spin=False),
        "OpenVINO FP32": OpenVinoEngine(fp32, streams["openvino"]),
    }
    if int8.is_file():
        found["ONNX Runtime INT8"] = OrtEngine(int8, settings=streams["onnxruntime"], spin=False)
        found["OpenVINO INT8"] = OpenVinoEngine(int8, streams["openvino"])
        if has_amx():
            found["kernels for AMX, INT8"] = AmxEngine(int8, streams["amx"])
    if bf16.is_file() and has_bfloat16():
        found["OpenVINO BF16"] = OpenVinoEngine(bf16, streams["openvino"])
        if has_amx():
            found["kernels for AMX, BF16"] = AmxEngine(bf16, streams["amx"])
    return found


def take_turns(engines: dict[str, Engine], seconds: float) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Pictures for each second of wall time, and of this process's own time on all cores, by engine and turn."""
    pictures, cores = sample_tiles(256, 256, _PICTURES), count_cores()
    wall: dict[str, list[float]] = {name: [] for name in engines}
    own: dict[str, list[float]] = {name: [] for name in engines}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, engine in engines.items():
            engine.logits(pictures[:2])
            done, started, mine = 0, time.perf_counter(), time.process_time()
            while time.perf_counter() - started < _TURN_SECONDS:
                engine.logits(pictures)
                done += len(pictures)
            wall[name].append(done / (time.perf_counter() - started))
            own[name].append(cores * done / (time.process_time() - mine))
    return wall, own


if __name__ == "__main__":
    main()
