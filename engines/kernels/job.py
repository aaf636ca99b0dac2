"""What one run of the kernels is about: where its pixels lie, how many pictures there are, where the logits go.

Kernels read it from the GPU's memory when they run. So one captured CUDA graph serves any array of pictures that lies
on the GPU, without a copy, and any number of pictures up to the one that it was captured for.
"""

import torch

FIELDS = 3
NBYTES = 8 * FIELDS


def make_job(pixels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """A job int64 ``(3,)`` for pixels uint8 ``(N, H, W, 3)`` and logits float32 ``(N,)``, on their device."""
    return torch.tensor([pixels.data_ptr(), len(pixels), logits.data_ptr()], dtype=torch.int64, device=pixels.device)
