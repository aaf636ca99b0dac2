"""NPR, neighbouring pixel relationships: what is left of a pixel when its 2x2 block's first one is subtracted.

Source: NPR (CVPR 2024), which takes the signed difference times 2/3; LFM takes it without sign. Neither has parameters.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from lfm_deploy.config import Residual


def pixel_differences(x: Tensor) -> Tensor:
    """NPR: each pixel minus the top-left pixel of its 2x2 block.

    Args:
        x: ``(N, 3, H, W)``, H and W even.

    Returns:
        ``(N, 3, H, W)``; every top-left pixel of a block is 0.
    """
    anchors = x[..., ::2, ::2]
    return x - F.interpolate(anchors, scale_factor=2.0, mode="nearest")


def neighbouring_pixel_relationships(x: Tensor) -> Tensor:
    """|NPR|, not negative; as ``pixel_differences``."""
    return pixel_differences(x).abs()


class AbsoluteResidual(nn.Module):
    """|NPR|, as LFM sees it. ``gain`` is what it is multiplied with."""

    gain = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 3, H, W)`` -> the same shape, not negative."""
        return neighbouring_pixel_relationships(x)


class SignedResidual(nn.Module):
    """NPR times 2/3, as the baseline NPR sees it. ``gain`` is what it is multiplied with."""

    gain = 2 / 3

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 3, H, W)`` -> the same shape."""
        return pixel_differences(x) * self.gain


def build_residual(residual: Residual) -> AbsoluteResidual | SignedResidual:
    """The module of a config's residual."""
    return AbsoluteResidual() if residual is Residual.ABSOLUTE else SignedResidual()
