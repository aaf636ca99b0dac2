"""The published forward pass in PyTorch, float32: the reference of every comparison."""

from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from engines.engine import check_images, split_batch
from lfm_deploy.checkpoint import Checkpoint, read_checkpoint
from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import Contract
from lfm_deploy.errors import ConfigError, UnavailableError
from lfm_deploy.model import normalise

# Bounds memory: the first stage of the published model takes 17 MB a picture at 256x256.
_LARGEST_BATCH = {"cpu": 8, "cuda": 64}


class PyTorchEngine:
    """A checkpoint, run as published. See ``Engine`` for the attributes."""

    runtime = "pytorch"
    precision = "fp32"

    def __init__(self, checkpoint: Checkpoint, *, device: str = "cpu") -> None:
        if device.partition(":")[0] not in _LARGEST_BATCH:
            raise ConfigError(f"device is {device!r}, expected cpu, cuda or cuda:N")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise UnavailableError("PyTorch on the GPU: not run: no CUDA device; use --device cpu")
        self.device = device
        self.config: ModelConfig = checkpoint.config
        # The published protocol resizes or not, by suite; the network itself takes any even size.
        self.contract = Contract(size="native")
        self.batch_range = (1, _LARGEST_BATCH[device.partition(":")[0]])
        self._model = checkpoint.build_model().to(device)

    @classmethod
    def from_file(cls, path: Path, *, device: str = "cpu") -> Self:
        """Read a ``.pth`` file; errors as of ``read_checkpoint``."""
        return cls(read_checkpoint(path), device=device)

    @property
    def name(self) -> str:
        """Name in reports."""
        return "pytorch fp32"

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits float32 ``(N,)`` of uint8 ``(N, H, W, 3)``."""
        check_images(images.shape, str(images.dtype), self.contract, self.config, self.name)
        result = np.empty(len(images), dtype=np.float32)
        # TF32 would round the reference to 11 bits on recent GPUs.
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            for part in split_batch(len(images), *self.batch_range):
                chosen = np.ascontiguousarray(images[part.start : part.start + part.count])
                pixels = torch.from_numpy(chosen).to(self.device)
                result[part.start : part.start + part.count] = self._model(normalise(pixels)).cpu().numpy()
        return result

    def close(self) -> None:
        """Drop the network."""
        del self._model
