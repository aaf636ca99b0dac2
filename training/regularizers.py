"""RBLD and RKS, the two regularisers of Top-K pooling, as pure functions; both act in training alone.

RBLD, rank-based linear dropout. The k values v_1 <= ... <= v_k of a channel are dropped independently, value i with

    p_i = p_min + (p_max - p_min) * (i - 1) / (k - 1),      m_i = 0 with probability p_i, else 1,
    w_i = m_i * v_i / (1 - mean_j p_j)                      (without the divisor where rescale is False)

so that the largest value is dropped most often, and the sum of m_i / (1 - mean p) over a channel is k on average. The
gradient is that of a product with constants: dw_i/dv_i = m_i / (1 - mean p), and 0 between different values.
The published code gives every rank p_min, by a slip: both of its bounds are one variable. This follows the paper.

RKS, random-k sampling. Of a channel's h * w positions k are drawn without replacement, all subsets alike, and the
values there are sorted ascending: s = sort(x[P]). The gradient of a value that was drawn is that of its place in the
order, and 0 for all others. Drawing the k largest of independent uniform numbers gives every subset alike.

Source: Algorithm 1 of the LFM paper. Values are ascending here; a model whose values descend flips them.
"""

import torch
from torch import Tensor

from lfm_deploy.errors import ConfigError, ShapeError

P_MIN, P_MAX = 0.1, 0.3


def drop_probabilities(k: int, p_min: float = P_MIN, p_max: float = P_MAX) -> Tensor:
    """Probability with which RBLD drops each of k ascending values, float32 ``(k,)``.

    A single value (k = 1) is first and last at once; it gets the mean of both bounds, which is the mean for every k.

    Raises:
        ConfigError: k is not positive, or the bounds are not 0 <= p_min <= p_max < 1.
    """
    if k < 1 or not 0 <= p_min <= p_max < 1:
        raise ConfigError(f"RBLD needs k >= 1 and 0 <= p_min <= p_max < 1, got k={k}, p_min={p_min}, p_max={p_max}")
    if k == 1:
        return torch.tensor([(p_min + p_max) / 2])
    return p_min + (p_max - p_min) * torch.arange(k, dtype=torch.float32) / (k - 1)


def rank_based_linear_dropout(
    values: Tensor,
    generator: torch.Generator | None = None,
    *,
    p_min: float = P_MIN,
    p_max: float = P_MAX,
    rescale: bool = True,
    uniforms: Tensor | None = None,
) -> Tensor:
    """Drop values by their rank, the largest most often.

    Args:
        values: floats ``(N, C, k)``, ascending along the last axis.
        generator: random generator of the draws, on the device of the values; None is torch's global one.
        p_min: probability of dropping the smallest value.
        p_max: probability of dropping the largest value.
        rescale: whether the values that stay are divided by 1 - mean p, as dropout does.
        uniforms: floats ``(N, C, k)`` in [0, 1) in place of draws; a value is dropped where its number is below p_i.

    Returns:
        ``(N, C, k)``, the dtype of the values; a dropped value is 0.

    Raises:
        ConfigError: k is not positive, or the bounds are not 0 <= p_min <= p_max < 1.
    """
    probabilities = drop_probabilities(values.shape[-1], p_min, p_max).to(values.device)
    if uniforms is None:
        uniforms = torch.rand(values.shape, generator=generator, device=values.device)
    factors = (uniforms >= probabilities).to(values.dtype)
    if rescale:
        factors /= 1 - (p_min + p_max) / 2  # the mean of equally spaced p_i is that of their ends
    return values * factors


def sample_random_k(
    maps: Tensor, k: int, generator: torch.Generator | None = None, *, uniforms: Tensor | None = None
) -> Tensor:
    """Values at k random positions of each channel, sorted.

    Args:
        maps: feature maps, floats ``(N, C, h, w)``.
        k: number of positions, all different.
        generator: random generator of the draws, on the device of the maps; None is torch's global one.
        uniforms: floats ``(N, C, h * w)`` in place of draws; the positions of the k largest are taken.

    Returns:
        ``(N, C, k)``, ascending along the last axis.

    Raises:
        ShapeError: a channel has fewer than k positions, or k is not positive.
    """
    flat = maps.flatten(2)
    if not 1 <= k <= flat.shape[2]:
        height, width = maps.shape[-2:]
        raise ShapeError(
            f"random-k sampling of k = {k} needs 1 to {flat.shape[2]} positions of a {height}x{width} map; "
            "choose a smaller k, or train on larger crops"
        )
    if uniforms is None:
        uniforms = torch.rand(flat.shape, generator=generator, device=maps.device)
    positions = uniforms.topk(k, dim=2, sorted=False).indices
    return flat.gather(2, positions).sort(dim=2).values
