"""What the network saw in a picture, as four images of one size; each says how it was made visible."""

from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfm_deploy.exploration.examples import Example
from lfm_deploy.network.evidence import draw_evidence

# Residuals of photographs are a few grey levels with a long tail; the square root shows both.
_WHITE_AT = 64
# Pictures at native size can be of any size; a page needs no more than this many pixels a side.
_LONGEST_SIDE = 512


@dataclass(frozen=True, slots=True)
class Panel:
    """One of the images.

    Attributes:
        title: title of the panel, short.
        legend: meaning of brightness or colour.
    """

    title: str
    legend: str


PANELS = (
    Panel("picture", "as the network judged it"),
    Panel(
        "residual |NPR|",
        f"each pixel less the top left one of its 2x2 block, mean of R, G, B; brightness is the square root, white at "
        f"{_WHITE_AT} grey levels or more, the same in every row",
    ),
    Panel(
        "Top-K positions",
        "how many of the values that Top-K pooling selected see a pixel, from black (none) to the most of the row",
    ),
    Panel(
        "evidence",
        "what each pixel adds to the logit: red for fake, blue for real, strongest at the largest share of the row; "
        "exact, and together it is the logit without its bias",
    ),
)


def draw_panels(example: Example) -> Iterator[Image.Image]:
    """The images of ``PANELS``, in their order, RGB."""
    levels = np.sqrt(np.minimum(example.residual, _WHITE_AT) / _WHITE_AT)
    heat = example.selected / (example.selected.max() or 1)
    yield _fitted(Image.fromarray(example.picture))
    yield _fitted(Image.fromarray(_as_bytes(levels)).convert("RGB"))
    yield _fitted(Image.fromarray(_as_bytes(mpl.colormaps["inferno"](heat)[..., :3])))
    yield _fitted(draw_evidence(example.picture, example.spread))


def _as_bytes(fractions: NDArray[np.floating]) -> NDArray[np.uint8]:
    return (255 * fractions).round().astype(np.uint8)


def _fitted(image: Image.Image) -> Image.Image:
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.BOX)
    return image
