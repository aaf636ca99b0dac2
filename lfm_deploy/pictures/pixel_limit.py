"""How many pixels a picture may have to be decoded at all: a small file can claim to hold terabytes."""

from collections.abc import Iterator
from contextlib import contextmanager

from lfm_deploy.errors import ConfigError, TooManyPixelsError

# Twice what Pillow warns above, which is where Pillow, and so the authors' code, refuses a decompression bomb.
MOST_PIXELS = 2 * 89_478_485

_limits = [MOST_PIXELS]


def most_pixels() -> int:
    """Number of pixels up to which pictures are decoded now."""
    return _limits[-1]


@contextmanager
def limit_pixels(count: int = MOST_PIXELS) -> Iterator[None]:
    """Decode pictures of up to so many pixels while the block runs, in all threads of this process.

    Pillow's own limit is lifted meanwhile, so that this one alone counts.

    Args:
        count: number of pixels, width times height.

    Raises:
        ConfigError: the number is not positive.
    """
    if count < 1:
        raise ConfigError(f"max_pixels is {count}, expected 1 or more")
    from PIL import Image  # the command line reads the limit's default before it needs pictures

    before = Image.MAX_IMAGE_PIXELS
    _limits.append(count)
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
        _limits.pop()


def check_pixels(width: int, height: int) -> None:
    """Refuse a picture by the size that its header claims.

    Raises:
        TooManyPixelsError: the picture has more pixels than are decoded; the message is the bare reason.
    """
    if width * height > most_pixels():
        raise TooManyPixelsError(f"{width}x{height} is more than {describe_limit()}")


def describe_limit() -> str:
    """The limit in words, with the way to raise it."""
    return f"{most_pixels()} pixels; --max-pixels raises the limit"
