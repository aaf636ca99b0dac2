"""The fused network on one GPU's stream: each batch size that returns as one captured CUDA graph."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from engines.cuda_graphs import LARGEST_CACHE, GraphCache, GraphKey
from engines.fused_choice import choose_ways
from engines.fused_graph import FusedWeights
from engines.fused_network import FusedNetwork
from engines.kernels.job import FIELDS, NBYTES
from engines.memory import PinnedBuffer, Stream, check
from lfm_deploy.errors import UnavailableError


class FusedRunner:
    """Runs what a job says, on ``stream``.

    A graph reads where its pixels are when it runs, so one serves all arrays of its shape, and smaller batches too.
    """

    def __init__(self, weights: FusedWeights, device: str, cuda: Any, *, same_size: bool) -> None:
        """Put the network on a GPU.

        Args:
            weights: weights of a graph, as ``read_weights`` gives them.
            device: ``"cuda:N"``.
            cuda: cuda-python's runtime module, as ``load_runtime`` gives it; the calling thread's GPU is this one.
            same_size: whether all pictures have one size; then cuDNN tries its algorithms out.
        """
        self.network = FusedNetwork(weights, device)
        self.stream = Stream(cuda)
        self._cuda = cuda
        self._same_size = same_size
        self._torch_stream = torch.cuda.ExternalStream(self.stream.handle, device=device)  # type: ignore[no-untyped-call]
        self._job = torch.zeros(FIELDS, dtype=torch.int64, device=device)
        torch.cuda.synchronize(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: GraphCache[torch.cuda.CUDAGraph] = GraphCache(LARGEST_CACHE, self._discard)
        self._measured = False

    @property
    def graphs(self) -> int:
        """How many captured graphs are held."""
        return len(self._graphs)

    def run(self, job: PinnedBuffer, batch: int, size: tuple[int, int]) -> None:
        """Queue one run.

        Args:
            job: job of this run, int64 ``(3,)``, see ``engines.kernels.job``; untouched until the run is done.
            batch: number of pictures that are computed, at least as many as the job has.
            size: height and width of the pictures.

        Raises:
            UnavailableError: the GPU has too little memory.
        """
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        result = self._cuda.cudaMemcpyAsync(self._job.data_ptr(), job.address, NBYTES, kind, self.stream.handle)
        check(self._cuda, result, "copying to the GPU")
        key = GraphKey((batch, *size, 3), 0, 0)
        graph = self._graphs.find(key)
        if graph is None:
            with self._on_stream():
                self._run_plainly(key)
            return
        with torch.cuda.stream(self._torch_stream):
            graph.replay()

    def _run_plainly(self, key: GraphKey) -> None:
        """Run a shape call by call, and capture it for the next time where it returned.

        What is never captured happens in that run: cuBLAS and cuDNN set up, and try out, for each thread anew.
        """
        batch, height, width, _ = key.shape
        if not self._measured:
            self.network.ways = choose_ways(self.network, (height, width))
            self._measured = True
        generation = self.network.arena.generation
        buffers = self.network.make_buffers(batch, height, width)
        if generation != self.network.arena.generation:
            self._graphs.clear()  # they point into memory that moved
        self.network.forward(self._job, buffers)
        if not self._graphs.is_due(key):
            return
        if not len(self._graphs):
            self._pool = torch.cuda.graph_pool_handle()  # a pool is gone with the last graph that used it
        graph = torch.cuda.CUDAGraph()
        # Thread-local: what other threads do meanwhile does not end this capture.
        graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
        try:
            self.network.forward(self._job, buffers)
        finally:
            graph.capture_end()
        self._graphs.put(key, graph)

    def close(self) -> None:
        """Free the GPU memory; nothing may be running."""
        self._graphs.clear()
        del self.network, self._job, self._torch_stream
        self.stream.close()

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        flags = torch.backends.cudnn.flags(enabled=True, benchmark=self._same_size, allow_tf32=False)
        try:
            with torch.inference_mode(), torch.cuda.stream(self._torch_stream), flags:
                yield
        except torch.OutOfMemoryError:
            free, total = torch.cuda.mem_get_info(self.network.device)
            raise UnavailableError(
                f"fused kernels on {self.network.device}: not run: too little GPU memory ({free >> 20} of "
                f"{total >> 20} MiB free); end what else runs there, or run smaller batches"
            ) from None

    def _discard(self, graph: torch.cuda.CUDAGraph) -> None:
        self.stream.synchronize()
        graph.reset()
