"""Everything that needs an NVIDIA GPU, in one run of at most four minutes: tests, golden pictures, speeds.

    python benchmarks/gpu.py --checkpoint model.pth --graph deploy/lfm.fp16.onnx --golden golden.npz --out results

Runs where PyTorch for CUDA and Triton are, downloads nothing, and says what it left out and why. What matters most
comes first, and is written into ``gpu.md`` and ``gpu.json`` in ``--out`` after each step. Speeds are medians; those
with pixels on the card are by CUDA events, those from host memory by the wall clock, whole calls. The limit is that of
the network's multiply-adds at the best rate of any float16 matrix product that the same run measured; from the host, or
that of copies where it is lower.
"""

import faulthandler
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from gpu_pycuda import LeftOutError, run_trial, start_build
from gpu_steps import Step, run_steps
from gpu_tables import FROM_HOST, Results, write_markdown
from gpu_tests import have_passed, run_tests
from numpy.typing import NDArray

from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.environment import installed_version
from lfm_deploy.errors import DeployError

# Of 256x256 pixels: 800 MB.
_MOST_PICTURES = 4096
_TEST_SECONDS = 130.0
# Logits reach 46; the FP16 graph moves them by up to 0.06.
_GOLDEN_WITHIN = 0.1
# A way that hangs ends the run so long after its time, with the stacks of all threads.
_GRACE_SECONDS = 60.0
_FILE = click.Path(exists=True, path_type=Path)


@click.command()
@click.option("--checkpoint", type=_FILE, help="The published checkpoint.")
@click.option("--graph", type=_FILE, help="Its FP16 graph, by build --fp16; engines beside it are measured too.")
@click.option("--golden", type=_FILE, help="Pictures and the authors' logits.")
@click.option("--pictures", type=_FILE, help="Folder with 0_real and 1_fake: what every way decides on it.")
@click.option("--jpegs", type=_FILE, help="JPEG files to decode; some are made.")
@click.option("--pycuda", type=_FILE, help="Source of pycuda, which is built where nvcc is; without it, as installed.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("gpu-results"), show_default=True)
@click.option("--tests/--no-tests", default=True, help="Run the tests that need a GPU.")
@click.option("--only", default="", help="Measure only ways whose name holds this text.")
@click.option("--seconds", default=240.0, show_default=True, help="Time for all of it.")
def main(
    checkpoint: Path | None,
    graph: Path | None,
    golden: Path | None,
    pictures: Path | None,
    jpegs: Path | None,
    pycuda: Path | None,
    out: Path,
    tests: bool,
    only: str,
    seconds: float,
) -> None:
    """Test and measure on the GPU in this machine."""
    if checkpoint is None or graph is None or golden is None:
        raise click.UsageError("needs --checkpoint, --graph and --golden")
    require_gpu()
    faulthandler.enable()  # libraries that abort would leave nothing else
    faulthandler.dump_traceback_later(seconds + _GRACE_SECONDS, exit=True)
    with tempfile.TemporaryDirectory(prefix="lfm-gpu-") as scratch:
        try:
            run = Run(checkpoint, graph, golden, out, Path(scratch))
        except DeployError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(error.exit_code)
        steps = run.list_steps(pictures, jpegs, tests=tests, only=only)
        if not only:
            run.begin_pycuda(pycuda)
        try:
            run.results.took_s |= run_steps(steps, seconds, run.results.left_out, run.write)
        finally:
            run.stop_building()
        faulthandler.cancel_dump_traceback_later()
        click.echo(run.write())
        if not run.is_whole():
            sys.exit(1)


def require_gpu() -> None:
    """End with exit code 3 where PyTorch is missing or finds no GPU."""
    try:
        import torch
    except ImportError:
        click.echo("not run: this Python has no PyTorch; name one that has it for CUDA with GPU_PYTHON", err=True)
        sys.exit(3)
    if not torch.cuda.is_available():
        click.echo("not run: no CUDA device that PyTorch can use", err=True)
        sys.exit(3)


def ask_driver() -> str:
    """The driver's version; empty where it cannot be asked."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=False, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


class Run:
    """One run, and what it found."""

    def __init__(self, checkpoint: Path, graph: Path, golden: Path, out: Path, scratch: Path) -> None:
        """Read what is given.

        Raises:
            DeployError: the graph is damaged, not ours, or not in FP16; or the golden file holds no pictures.
        """
        info = read_graph_info(graph)
        if info.precision is not Precision.FP16:
            raise DeployError(f"{graph}: is {info.precision}, expected fp16; make it with 'lfm-deploy build --fp16'")
        with np.load(golden) as stored:
            if not {"images", "logits"} <= set(stored.files):
                raise DeployError(f"{golden}: holds {', '.join(stored.files)}, expected images and logits")
            self.images = np.ascontiguousarray(stored["images"])
            self.logits = stored["logits"].reshape(-1)
        self.checkpoint, self.graph, self.golden, self.out, self.scratch = checkpoint, graph, golden, out, scratch
        self.multiply_adds = sum(info.config.multiply_adds(*self.images.shape[1:3]).values())
        self.results = Results()
        self.folder: NDArray[np.uint8] | None = None
        self.building: subprocess.Popen[bytes] | LeftOutError | None = None
        out.mkdir(parents=True, exist_ok=True)

    @cached_property
    def host(self) -> NDArray[np.uint8]:
        """Pictures in host memory."""
        return np.resize(self.images, (FROM_HOST, *self.images.shape[1:]))

    def list_steps(self, pictures: Path | None, jpegs: Path | None, *, tests: bool, only: str) -> list[Step]:
        """What is done, the most important parts first; those that are not asked for are named."""
        from gpu_contenders import COMPILED, find_contenders

        ways = [
            Step(name, 60 if name == COMPILED else 10, partial(self.measure, name, open_contender))
            for name, open_contender in find_contenders(self.checkpoint, self.graph).items()
            if only in name
        ]
        steps = [Step("the machine", 0, self.describe_machine), Step("ceilings", 3, self.measure_ceilings)]
        if pictures is not None:
            steps.append(Step("the folder's pictures", 5, partial(self.read_folder, pictures)))
        else:
            self.results.left_out["verification over a folder"] = "not run: none was named with --pictures"
        steps += ways[:2]
        if only:
            return [*steps, *ways[2:]]
        steps.append(Step("milliseconds a kernel", 5, self.time_kernels))
        if tests:
            steps.append(Step("tests", 20, self.run_tests))
        return [
            *steps,
            *ways[2:],
            Step("pycuda", 5, self.try_pycuda),
            Step("decoding", 25, partial(self.measure_decoding, jpegs)),
        ]

    def is_whole(self) -> bool:
        """Whether the fused engine gave the golden logits and the tests passed, as far as they were asked for."""
        left_out = self.results.left_out
        said = self.results.facts.get("tests", left_out.get("tests", "passed"))
        exact = self.results.golden.get("fused", 0.0) <= _GOLDEN_WITHIN
        return "fused" not in left_out and exact and have_passed(str(said))

    def write(self) -> str:
        """Write down what was found so far; the tables."""
        limits = self.results.limits(self.multiply_adds, int(np.prod(self.images.shape[1:])))
        from gpu_contenders import REFERENCE

        verified = self.results.verify(REFERENCE)
        text = write_markdown(self.results, limits, verified)
        (self.out / "gpu.md").write_text(text, encoding="utf-8")
        values = self.results.as_dict() | {"limits_per_second": limits, "verified": verified}
        (self.out / "gpu.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        return text

    def describe_machine(self, _: float) -> None:
        """The card, and what runs on it."""
        import torch

        versions = {name: installed_version(name) for name in ("torch", "triton", "onnxruntime-gpu", "cuda-python")}
        self.results.facts |= {
            "card": torch.cuda.get_device_name(),
            "date": datetime.now(UTC).date().isoformat(),
            "driver": ask_driver(),
            "python": sys.version.split()[0],
            **{name: version for name, version in versions.items() if version is not None},
            "command": " ".join(sys.argv),
        }

    def measure_ceilings(self, _: float) -> None:
        """The best rates of float16 matrix products and of copies."""
        from gpu_timing import measure_ceilings

        self.results.facts |= measure_ceilings()

    def read_folder(self, folder: Path, _: float) -> None:
        """Pictures of a folder, evenly chosen where there are too many, in their order."""
        from lfm_deploy.pictures.images import read_image
        from lfm_deploy.suites.folders import load_folder

        sets = load_folder(folder, self.images.shape[1], both_classes=False).sets
        paths = [image.path for part in sets for image in part.images]
        paths = paths[:: -(-len(paths) // _MOST_PICTURES)]
        with ThreadPoolExecutor() as threads:
            self.folder = np.stack(list(threads.map(partial(read_image, size=self.images.shape[1]), paths)))

    def measure(self, name: str, open_contender: Callable[[], Any], _: float) -> None:
        """Golden pictures, the folder's pictures, and speeds of one way to run the network."""
        import torch
        from gpu_timing import time_ms, wall_ms

        results = self.results
        contender = open_contender()
        try:
            results.golden[name] = self.find_distance(contender)
            click.echo(f"{name}: golden logits within {results.golden[name]:.3f}", err=True)
            if self.folder is not None:
                results.judged[name] = contender.logits(self.folder)
            speeds = results.on_card[name] = {}
            for batch in contender.batches:
                pixels = torch.from_numpy(np.resize(self.images, (batch, *self.images.shape[1:]))).cuda()
                speeds[batch] = batch / time_ms(contender.on_card(pixels)) * 1e3
            speeds = results.from_host[name] = {}
            for count in (*contender.batches, FROM_HOST):
                speeds[count] = count / wall_ms(partial(contender.logits, self.host[:count])) * 1e3
            later = np.abs(contender.logits(self.host) - np.resize(self.logits, FROM_HOST)).max()
            results.golden[name] = float(np.maximum(results.golden[name], later))
            click.echo(f"{name}: {max(results.on_card[name].values()):,.0f}/s on the card", err=True)
        finally:
            contender.close()
            torch.cuda.empty_cache()

    def find_distance(self, contender: Any) -> float:
        """The largest distance to the authors' logits, of a run call by call, of one captured, and of its replay."""
        return float(np.max([np.abs(contender.logits(self.images) - self.logits) for _ in range(3)]))

    def time_kernels(self, _: float) -> None:
        """Milliseconds of each kernel of the fused engine."""
        from gpu_contenders import time_kernels

        self.results.kernels_ms = time_kernels(self.graph, self.images)

    def run_tests(self, left: float) -> None:
        """All tests that need a GPU."""
        self.results.facts["tests"] = run_tests(self.out, min(left, _TEST_SECONDS), self.results.left_out)

    def begin_pycuda(self, source: Path | None) -> None:
        """Begin to build pycuda, which takes one core for two minutes, where it is not installed."""
        try:
            self.building = start_build(source, self.scratch / "pycuda")
        except LeftOutError as error:
            self.building = error

    def stop_building(self) -> None:
        """End a build that found no time."""
        if isinstance(self.building, subprocess.Popen) and self.building.poll() is None:
            self.building.kill()
            self.building.wait()

    def try_pycuda(self, left: float) -> None:
        """GPUArray in, logits out."""
        try:
            if isinstance(self.building, LeftOutError):
                raise self.building
            folder = self.scratch / "pycuda"
            self.results.pycuda = run_trial(self.building, folder, self.graph, self.golden, left)
        except LeftOutError as error:
            self.results.left_out["pycuda"] = str(error)

    def measure_decoding(self, jpegs: Path | None, left: float) -> None:
        """Files to verdicts, by decoder."""
        from gpu_decoding import measure_decoding

        self.results.decoding = measure_decoding(self.graph, self.scratch, jpegs, seconds=left)


if __name__ == "__main__":
    main()
