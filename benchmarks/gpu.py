"""Everything that needs an NVIDIA GPU, in one run of some minutes: tests, golden pictures, speeds.

    python benchmarks/gpu.py --checkpoint model.pth --graph lfm.fp16.onnx --golden golden.npz --out results

Runs where PyTorch for CUDA and Triton are, downloads nothing, and says what it left out and why. Writes ``gpu.md`` and
``gpu.json`` into ``--out``. Speeds are medians; those with pixels on the card are by CUDA events, those from host
memory by the wall clock, whole calls. The limit is that of the network's multiply-adds at the best rate of any float16
matrix product that the same run measured.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from gpu_contenders import Contender, find_contenders, time_kernels
from gpu_decoding import DecodingResults, measure_decoding, write_decoding
from gpu_timing import time_ms, wall_ms

from lfm_deploy.artifacts import read_graph_info

BATCHES = (1, 8, 32, 64, 128, 256, 512)
FROM_HOST = 4096
TESTS = (
    *("test_layout", "test_first_stage", "test_pooled_convolution", "test_kernel_pooling", "test_selection"),
    *("test_fused_graph", "test_fused_network", "test_fused", "test_copying", "test_slots"),
    *("test_resizing_kernel", "test_card_reading"),
)
LEFT_OUT = {
    "TensorRT": "not run: this script measures PyTorch, ONNX Runtime and the fused kernels",
    "pycuda": "not run: not asked for here",
}


@dataclass
class Results:
    """What was found, in the order in which it was."""

    facts: dict[str, Any] = field(default_factory=dict)
    golden: dict[str, float] = field(default_factory=dict)
    on_card: dict[str, dict[int, float]] = field(default_factory=dict)
    from_host: dict[str, dict[int, float]] = field(default_factory=dict)
    decoding: DecodingResults = field(default_factory=DecodingResults)
    kernels_ms: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=lambda: dict(LEFT_OUT))


@click.command()
@click.option("--checkpoint", type=click.Path(exists=True, path_type=Path), help="The published checkpoint.")
@click.option("--graph", type=click.Path(exists=True, path_type=Path), help="Its FP16 graph, by build --fp16.")
@click.option("--golden", type=click.Path(exists=True, path_type=Path), help="Pictures and the authors' logits.")
@click.option("--jpegs", type=click.Path(exists=True, path_type=Path), help="JPEG files to decode; some are made.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("gpu-results"), show_default=True)
@click.option("--tests/--no-tests", default=True, help="Run the tests that need a GPU.")
@click.option("--only", default="", help="Measure only ways whose name holds this text.")
def main(
    checkpoint: Path | None,
    graph: Path | None,
    golden: Path | None,
    jpegs: Path | None,
    out: Path,
    tests: bool,
    only: str,
) -> None:
    """Test and measure on the GPU in this machine."""
    if checkpoint is None or graph is None or golden is None:
        raise click.UsageError("needs --checkpoint, --graph and --golden")
    if not torch.cuda.is_available():
        click.echo("not run: no CUDA device that PyTorch can use", err=True)
        sys.exit(3)
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    results = Results()
    results.facts |= describe_machine()
    if tests:
        results.facts["tests"] = run_tests(out)
    with np.load(golden) as stored:
        pictures, logits = np.ascontiguousarray(stored["images"]), stored["logits"].reshape(-1)
    results.facts |= measure_ceilings()
    for name, open_contender in find_contenders(checkpoint, graph, results.left_out).items():
        if only in name:
            measure(name, open_contender, pictures, logits, results)
    if not only:
        results.kernels_ms = time_kernels(graph, pictures)
        with tempfile.TemporaryDirectory(prefix="lfm-jpegs-") as temporary:
            results.decoding = measure_decoding(graph, Path(temporary), jpegs)
    results.facts["seconds"] = round(time.perf_counter() - started)
    adds = read_graph_info(graph).config.multiply_adds(*pictures.shape[1:3])
    limit = results.facts["best_matmul_tflops"] * 1e12 / (2 * sum(adds.values()))
    text = write_markdown(results, limit)
    (out / "gpu.md").write_text(text)
    (out / "gpu.json").write_text(json.dumps(asdict(results) | {"limit_per_second": limit}, indent=2) + "\n")
    click.echo(text)
    said = str(results.facts.get("tests", "passed"))
    if "passed" not in said or "failed" in said or "error" in said:
        sys.exit(1)


def describe_machine() -> dict[str, Any]:
    """The card, and what runs on it."""
    import triton

    driver = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "card": torch.cuda.get_device_name(),
        "date": datetime.now(UTC).date().isoformat(),
        "driver": driver,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "triton": triton.__version__,
        "command": " ".join(sys.argv),
    }


def run_tests(out: Path) -> str:
    """The last line of pytest's report."""
    from importlib.util import find_spec

    root = Path(__file__).resolve().parents[1]
    # Most of their time goes to compiling kernels, one core each.
    spread = ["-n", "8", "-p", "no:benchmark"] if find_spec("xdist") else []
    files = [str(root / "tests" / f"{name}.py") for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "--require-gpu", "-p", "no:cacheprovider", *spread, *files]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=150)
    (out / "tests.txt").write_text(done.stdout + done.stderr)
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else f"exit code {done.returncode}"


def measure_ceilings() -> dict[str, float]:
    """The best rates of float16 matrix products and of copies, on random numbers."""
    rates = []
    for rows, inner, columns in ((8192, 8192, 8192), (4096, 4096, 4096), (65536, 1024, 512), (1 << 18, 512, 256)):
        a = torch.randn(rows, inner, device="cuda", dtype=torch.half)
        b = torch.randn(inner, columns, device="cuda", dtype=torch.half)
        rates.append(2 * rows * inner * columns / time_ms(partial(torch.matmul, a, b)) / 1e9)
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copied = 2 * source.numel() / time_ms(lambda: target.copy_(source)) / 1e9
    pinned = torch.empty(1 << 28, dtype=torch.uint8, pin_memory=True)
    sent = pinned.numel() / time_ms(lambda: target[: 1 << 28].copy_(pinned, non_blocking=True)) / 1e6
    return {
        "best_matmul_tflops": round(max(rates), 1),
        "copy_on_card_tb_s": round(copied, 2),
        "host_to_card_gb_s": round(sent, 1),
    }


def measure(name: str, open_contender: Callable[[], Contender], pictures: Any, logits: Any, results: Results) -> None:
    """Golden pictures and speeds of one way to run the network."""
    try:
        contender = open_contender()
        results.golden[name] = float(np.abs(contender.logits(pictures) - logits).max())
        click.echo(f"{name}: golden logits within {results.golden[name]:.3f}", err=True)
        speeds = results.on_card[name] = {}
        for batch in contender.batches:
            pixels = torch.from_numpy(np.resize(pictures, (batch, *pictures.shape[1:]))).cuda()
            speeds[batch] = batch / time_ms(contender.on_card(pixels)) * 1e3
            click.echo(f"{name}: batch {batch}: {speeds[batch]:,.0f}/s", err=True)
        if contender.from_host is not None:
            host = np.resize(pictures, (FROM_HOST, *pictures.shape[1:]))
            speeds = results.from_host[name] = {}
            for count in (*BATCHES, FROM_HOST):
                speeds[count] = count / wall_ms(partial(contender.from_host, host[:count])) * 1e3
        contender.close()
    except Exception as error:  # one contender's failure is a result, not the end of the run
        lines = str(error).strip().splitlines() or [""]
        results.left_out[name] = f"not run: {type(error).__name__}: {lines[0][:200]}"
        click.echo(f"{name}: {results.left_out[name]}", err=True)
    torch.cuda.empty_cache()


def write_markdown(results: Results, limit: float) -> str:
    """The tables."""
    facts = results.facts
    lines = [
        f"# {facts['card']}, {facts['date']}",
        "",
        ", ".join(f"{name} {value}" for name, value in facts.items() if name not in ("card", "date")),
        "",
        f"Limit of this network at {facts['best_matmul_tflops']} TFLOP/s: {limit:,.0f} pictures a second.",
        "",
        "| pixels on the card, pictures/s | golden logits within | "
        + " | ".join(map(str, BATCHES))
        + " | of the limit |",
        "|---" * (len(BATCHES) + 3) + "|",
    ]
    for name, speeds in results.on_card.items():
        cells = [f"{speeds[batch]:,.0f}" if batch in speeds else "" for batch in BATCHES]
        share = f"{max(speeds.values()) / limit:.0%}" if speeds else ""
        lines.append(f"| {name} | {results.golden[name]:.3f} | " + " | ".join(cells) + f" | {share} |")
    counts = (*BATCHES, FROM_HOST)
    lines += [
        "",
        "| host to host, pictures/s | " + " | ".join(map(str, counts)) + " |",
        "|---" * (len(counts) + 1) + "|",
    ]
    for name, speeds in results.from_host.items():
        lines.append(f"| {name} | " + " | ".join(f"{speeds[count]:,.0f}" for count in counts) + " |")
    lines += ["", "| kernel, 256 pictures | ms |", "|---|---|"]
    lines += [f"| {name} | {ms:.3f} |" for name, ms in results.kernels_ms.items()]
    if results.decoding.rates or results.decoding.left_out:
        lines += ["", *write_decoding(results.decoding)]
    lines += ["", "Left out:", "", *(f"- {name}: {why}" for name, why in results.left_out.items()), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
