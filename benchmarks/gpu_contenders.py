"""The ways to run the network on a GPU that ``gpu.py`` compares."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_timing import time_ms
from numpy.typing import NDArray

from engines.fused import FusedEngine
from engines.fused_graph import read_weights
from engines.fused_network import CUDNN, FusedNetwork
from engines.gpu_choice import open_way
from engines.gpu_settings import GpuSettings
from engines.kernels.job import make_job
from engines.kernels.judgement import run_judge
from engines.kernels.selection import run_select
from engines.loading import load_engine
from lfm_deploy.workdir import Workdir

ALL = (1, 8, 32, 64, 128, 256, 512)
FEW = (1, 32, 256)
REFERENCE, COMPILED = "published, eager FP32", "torch.compile, FP16 autocast"


@dataclass
class Contender:
    """One way to run the network.

    Attributes:
        logits: float32 (N,) of uint8 (N, H, W, 3), both in host memory.
        on_card: of pixels on the card, what queues one run of them.
        batches: that are measured.
        close: frees it.
    """

    logits: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    on_card: Callable[[torch.Tensor], Callable[[], object]]
    batches: tuple[int, ...]
    close: Callable[[], None]


def find_contenders(checkpoint: Path, graph: Path) -> dict[str, Callable[[], Contender]]:
    """Ways by name, the most important ones first; opening one fails where this machine has no library for it."""
    found: dict[str, Callable[[], Contender]] = {
        "fused": lambda: fused(graph),
        REFERENCE: lambda: pytorch(checkpoint, precision="fp32"),
        COMPILED: lambda: pytorch(checkpoint, precision="fp16", compiled=True),
    }
    plain = GpuSettings(runtime="onnxruntime", piece=128)
    wide = replace(plain, nhwc=True)
    # A capture that fails may end the process, so one way without comes before it.
    for settings in (wide, replace(wide, cuda_graph=True), replace(wide, search="heuristic"), plain):
        found[f"{settings}, FP16"] = partial(open_device_engine, open_way, graph, "cuda", settings)
    for path in Workdir(graph.parent).engines():
        found[path.name] = partial(open_device_engine, load_engine, path, device="cuda")
    found["eager FP16 autocast, channels last"] = lambda: pytorch(checkpoint, precision="fp16")
    return found


def open_device_engine(opener: Callable[..., Any], *arguments: Any, **options: Any) -> Contender:
    """The same of an engine that is opened first."""
    return device_engine(opener(*arguments, **options))


def device_engine(engine: Any) -> Contender:
    """An engine that reads pixels where they lie; on the card, whole calls of it."""
    return Contender(engine.logits, lambda pixels: lambda: engine.logits(pixels), FEW, engine.close)


def fused(graph: Path) -> Contender:
    """The fused engine; on the card, its CUDA graph alone."""
    engine = FusedEngine(graph)

    def on_card(pixels: torch.Tensor) -> Callable[[], object]:
        engine.logits(pixels[:256])  # chooses how to run
        network: FusedNetwork = engine._runner.network
        return capture(network, pixels)

    return Contender(engine.logits, on_card, ALL, engine.close)


def capture(network: FusedNetwork, pixels: torch.Tensor) -> Callable[[], object]:
    """A CUDA graph of one run, in memory of its own."""
    own = network.arena
    network.arena = type(own)(network.device)
    job = make_job(pixels, torch.empty(len(pixels), device="cuda"))
    side: Any = torch.cuda.Stream()
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, benchmark=True):
        buffers = network.make_buffers(len(pixels), *pixels.shape[1:3])
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            network.forward(job, buffers)
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            network.forward(job, buffers)
    network.arena = own
    kept = (pixels, job, buffers)

    def replay() -> object:
        graph.replay()
        return kept

    return replay


def pytorch(checkpoint: Path, *, precision: str, compiled: bool = False) -> Contender:
    """The published forward pass in PyTorch."""
    engine: Any = load_engine(checkpoint, device="cuda", precision=precision, compiled=compiled)

    def on_card(pixels: torch.Tensor) -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                return engine._forward(pixels)

        return run

    return Contender(engine.logits, on_card, FEW, engine.close)


def time_kernels(graph: Path, pictures: NDArray[np.uint8], batch: int = 256) -> dict[str, float]:
    """Milliseconds of each kernel of the fused network; small ones inside a CUDA graph, which hides their launch."""
    from engines.fused_choice import choose_ways

    found: dict[str, float] = {}
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, benchmark=True):
        network = FusedNetwork(read_weights(graph), "cuda:0")
        size = pictures.shape[1], pictures.shape[2]
        network.ways = choose_ways(network, size)
        pixels = torch.from_numpy(np.resize(pictures, (batch, *pictures.shape[1:]))).cuda()
        job = make_job(pixels, torch.empty(batch, device="cuda"))
        buffers = network.make_buffers(batch, *size)
        x = network.run_first(job, buffers)
        found["pixels to the first pooled maps"] = time_ms(lambda: network.run_first(job, buffers))
        for number, way in enumerate(buffers.ways):
            title = "cuDNN" if way == CUDNN else f"with its pooling in one kernel, {way} tiles under way"
            found[f"convolution {number + 2}, {title}"] = time_ms(partial(network.run_stage, number, x, buffers))
            x = network.run_stage(number, x, buffers)
        last = x.reshape(batch, -1, x.shape[3])
        found["projection"] = time_ms(lambda: network.project(last, buffers))
        maps = network.project(last, buffers)
        found["k largest of each channel"] = time_ms(replayed(lambda: run_select(maps, buffers.lists)))
        linear, bias = network._linear, network._bias
        found["linear layer"] = time_ms(replayed(lambda: run_judge(buffers.lists, linear, bias, job)))
    return found


def replayed(run: Callable[[], object]) -> Callable[[], object]:
    """The same as a CUDA graph."""
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay
