"""The ways to run the network on a GPU that ``gpu.py`` compares."""

from collections.abc import Callable
from dataclasses import dataclass
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
from engines.kernels.job import make_job
from engines.kernels.judgement import run_judge
from engines.kernels.selection import run_select
from engines.loading import load_engine

ALL = (1, 8, 32, 64, 128, 256, 512)
FEW = (1, 32, 256)


@dataclass
class Contender:
    """One way to run the network.

    Attributes:
        logits: float32 (N,) of uint8 (N, H, W, 3), both in host memory.
        on_card: of pixels on the card, what queues one run of them.
        batches: that are measured.
        from_host: like ``logits``, where its speed is measured too.
        close: frees it.
    """

    logits: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    on_card: Callable[[torch.Tensor], Callable[[], object]]
    batches: tuple[int, ...]
    from_host: Callable[[NDArray[np.uint8]], object] | None
    close: Callable[[], None]


def find_contenders(checkpoint: Path, graph: Path, left_out: dict[str, str]) -> dict[str, Callable[[], Contender]]:
    """Ways by name; those that this machine has no library for are named in ``left_out``."""
    found: dict[str, Callable[[], Contender]] = {
        "fused": lambda: fused(graph),
        "published, eager FP32": lambda: pytorch(checkpoint, FEW, precision="fp32"),
        "eager FP16 autocast, channels last": lambda: pytorch(checkpoint, FEW, precision="fp16"),
        "torch.compile, FP16 autocast": lambda: pytorch(checkpoint, FEW, precision="fp16", compiled=True),
    }
    try:
        import onnxruntime

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            left_out["ONNX Runtime on CUDA"] = "not run: this build of onnxruntime has no CUDAExecutionProvider"
            return found
    except ImportError:
        left_out["ONNX Runtime on CUDA"] = "not run: onnxruntime-gpu is not installed"
        return found
    options = {"prefer_nhwc": "1", "fuse_conv_bias": "1"}
    found["ONNX Runtime CUDA, FP16"] = lambda: onnxruntime_cuda(graph, {})
    found[f"ONNX Runtime CUDA, FP16, {', '.join(options)}"] = lambda: onnxruntime_cuda(graph, options)
    return found


def fused(graph: Path) -> Contender:
    """The fused engine; on the card, its CUDA graph alone."""
    engine = FusedEngine(graph)

    def on_card(pixels: torch.Tensor) -> Callable[[], object]:
        engine.logits(pixels[:256])  # chooses how to run
        return capture(engine._runner.network, pixels)

    return Contender(engine.logits, on_card, ALL, engine.logits, engine.close)


def capture(network: FusedNetwork, pixels: torch.Tensor) -> Callable[[], object]:
    """A CUDA graph of one run, in memory of its own."""
    own = network.arena
    network.arena = type(own)(network.device)
    job = make_job(pixels, torch.empty(len(pixels), device="cuda"))
    side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
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


def pytorch(checkpoint: Path, batches: tuple[int, ...], *, precision: str, compiled: bool = False) -> Contender:
    """The published forward pass in PyTorch."""
    engine: Any = load_engine(checkpoint, device="cuda", precision=precision, compiled=compiled)

    def on_card(pixels: torch.Tensor) -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                return engine._forward(pixels)

        return run

    return Contender(engine.logits, on_card, batches, None if compiled else engine.logits, engine.close)


def onnxruntime_cuda(graph: Path, options: dict[str, str]) -> Contender:
    """ONNX Runtime's CUDA provider with options."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    provider = ("CUDAExecutionProvider", {"use_tf32": "0", **options})
    session = onnxruntime.InferenceSession(str(graph), settings, providers=[provider])
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise RuntimeError(f"it fell back to {session.get_providers()[0]}")

    def bind(pixels: torch.Tensor) -> tuple[Any, torch.Tensor]:
        out = torch.empty(len(pixels), device="cuda")
        binding = session.io_binding()
        binding.bind_input("image", "cuda", 0, np.uint8, tuple(pixels.shape), pixels.data_ptr())
        binding.bind_output("logit", "cuda", 0, np.float32, (len(pixels),), out.data_ptr())
        return binding, out

    def logits(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(pictures).cuda()
        binding, out = bind(pixels)
        torch.cuda.synchronize()
        session.run_with_iobinding(binding)
        found: NDArray[np.float32] = out.cpu().numpy()
        return found

    def on_card(pixels: torch.Tensor) -> Callable[[], object]:
        binding, out = bind(pixels)
        return lambda: (session.run_with_iobinding(binding), out)

    return Contender(logits, on_card, FEW, None, lambda: None)


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
