"""The published forward pass in PyTorch: float32, the reference of every comparison, or with autocast to float16."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.devices import parse_device
from engines.engine import check_images, split_batch
from engines.guarded_run import guard_run
from lfm_deploy.artifacts import Precision
from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import Contract, usual_side
from lfm_deploy.errors import ConfigError, UnavailableError, first_line
from lfm_deploy.network.checkpoint import Checkpoint, read_checkpoint
from lfm_deploy.network.model import LFM, normalise

# Bounds memory: the first stage of the published model takes 17 MB a picture at 256x256.
_LARGEST_BATCH = {"cpu": 8, "cuda": 64}
# Two sizes, of which the compiler learns that batches differ; and 1, for which it always makes kernels of its own.
_WARM_UP_BATCHES = (2, 3, 1)


class PyTorchEngine:
    """A checkpoint, run as published, or faster where asked. See ``Engine`` for the attributes.

    In FP16, convolutions to the pooling run under autocast to float16, on the CPU too (PyTorch's own default there
    is bfloat16); NPR, the linear layer and the logit stay float32, as in the FP16 graphs.
    """

    runtime = "pytorch"

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "cpu",
        precision: str = Precision.FP32,
        channels_last: bool | None = None,
        compiled: bool = False,
        contract: Contract | None = None,
    ) -> None:
        """Put the network on a device.

        Args:
            checkpoint: checkpoint from ``read_checkpoint``.
            device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
            precision: ``"fp32"`` or ``"fp16"``.
            channels_last: whether the channels of a pixel lie together in memory, as tensor cores want them; None does
                so for all but plain FP32, which stays as published.
            compiled: whether ``torch.compile`` makes the kernels, at once; on a CPU this takes a C++ compiler.
            contract: contract to judge by; None takes pictures of any size, by the usual threshold.

        Raises:
            ConfigError: the device or the precision is not a known one.
            UnavailableError: there is no GPU, or the network cannot be compiled on this machine.
        """
        kind, _ = parse_device(device)
        if precision not in (Precision.FP32, Precision.FP16):
            raise ConfigError(f"precision is {precision!r}, PyTorch runs a checkpoint in fp32 or fp16")
        if kind == "cuda" and not torch.cuda.is_available():
            raise UnavailableError("PyTorch on the GPU: not run: no CUDA device; use --device cpu")
        self.device = device
        self.precision = str(precision)
        self.config: ModelConfig = checkpoint.config
        # The published protocol resizes or not, by suite; the network itself takes any even size.
        self.contract = contract or Contract(size="native")
        self.batch_range = (1, _LARGEST_BATCH[kind])
        plain = precision == Precision.FP32 and not compiled
        self._layout = torch.channels_last if channels_last or (channels_last is None and not plain) else None
        self._compiled = compiled
        self._model: LFM = checkpoint.build_model().to(device)
        if self._layout is not None:
            self._model = self._model.to(memory_format=self._layout)  # type: ignore[call-overload]  # its stub lacks it
        self._forward: Any = self._judge
        if compiled:
            with self._compiling():
                # It finds by itself that batches differ, and compiles for any from then on; sides stay fixed, which is
                # faster than leaving all sizes open.
                self._forward = torch.compile(self._judge)
                side = usual_side(self.contract.size)
                for count in _WARM_UP_BATCHES:
                    self.logits(np.zeros((count, side, side, 3), dtype=np.uint8))

    @classmethod
    def from_file(
        cls,
        path: Path,
        *,
        device: str = "cpu",
        precision: str = Precision.FP32,
        compiled: bool = False,
        contract: Contract | None = None,
    ) -> Self:
        """Read a ``.pth`` file; errors as of ``read_checkpoint``.

        Args:
            path: path of the ``.pth`` file.
            device: device to run on: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
            precision: arithmetic: ``"fp32"`` or ``"fp16"``.
            compiled: whether ``torch.compile`` makes the kernels at the first run.
            contract: contract to judge by; None takes pictures of any size, by the usual threshold.
        """
        return cls(read_checkpoint(path), device=device, precision=precision, compiled=compiled, contract=contract)

    @property
    def name(self) -> str:
        """Name in reports."""
        return f"pytorch {self.precision}{' compiled' if self._compiled else ''}"

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits of pictures; a logit above the contract's threshold is fake.

        Args:
            images: pictures, RGB, uint8 ``(N, H, W, 3)``; any number.

        Returns:
            float32 ``(N,)``, in the order of the pictures.

        Raises:
            RunFailedError: PyTorch fails.
            ShapeError: the pictures are not what the contract says.
            UnavailableError: the network cannot be compiled for pictures of this size.
        """
        check_images(images.shape, str(images.dtype), self.contract, self.config, self.name)
        result = np.empty(len(images), dtype=np.float32)
        # TF32 would round the reference to 11 bits on recent GPUs.
        plain_cudnn = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        remedy = "use smaller batches, or another device"
        with guard_run(self.name, self.device, remedy), torch.inference_mode(), plain_cudnn, self._compiling():
            for part in split_batch(len(images), *self.batch_range):
                chosen = np.ascontiguousarray(images[part.start : part.start + part.count])
                pixels = torch.from_numpy(chosen).to(self.device)
                result[part.start : part.start + part.count] = self._forward(pixels).cpu().numpy()
        return result

    def close(self) -> None:
        """Drop the network."""
        del self._model, self._forward

    def _judge(self, pixels: Tensor) -> Tensor:
        """Logits ``(N,)`` of pixels uint8 ``(N, H, W, 3)``, both on the device."""
        x = normalise(pixels)
        if self._layout is not None:
            x = x.contiguous(memory_format=self._layout)
        if self.precision == Precision.FP32:
            return self._model(x)  # type: ignore[no-any-return]
        with torch.autocast(pixels.device.type, dtype=torch.float16):
            features = self._model.features(x)
        logits: Tensor = self._model.fc(features.float())
        return logits.squeeze(1)

    @contextmanager
    def _compiling(self) -> Iterator[None]:
        """Say in one sentence why a network cannot be compiled, and nothing of what the compiler warns about."""
        if not self._compiled:
            yield
            return
        with warnings.catch_warnings():
            # Its own deprecated calls, and advice such as TF32, which would round the reference.
            warnings.simplefilter("ignore")
            from torch._dynamo.exc import TorchDynamoException
            from torch._inductor.exc import InvalidCxxCompiler

            try:
                yield
            except TorchDynamoException as error:
                cause = getattr(error, "inner_exception", error)
                no_compiler = isinstance(cause, InvalidCxxCompiler)
                remedy = "install a C++ compiler, or run" if no_compiler else "run"
                raise UnavailableError(
                    f"{self.name}: not run: torch.compile failed ({first_line(cause)}); {remedy} it uncompiled"
                ) from None
