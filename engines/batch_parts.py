"""How many pictures run on a GPU at once: parts of a batch, so that copies overlap with compute."""

from engines.engine import BatchSlice

# A batch from host memory runs in four parts or more, but not in small ones.
_PARTS, _SMALLEST_PART = 4, 32
LARGEST_PART = 128
"""Number of pictures of 256x256 from host memory that run at once at most."""
PART_PIXELS = LARGEST_PART * 256 * 256
"""Number of pixels of a part, unless a single picture has more."""


def choose_part(pictures: int, size: tuple[int, int]) -> int:
    """How many pictures from host memory run at once: a power of two.

    Args:
        pictures: number of pictures in the batch.
        size: height and width of the pictures.
    """
    share = -(-pictures // _PARTS)
    return limit_batch(min(max(1 << (share - 1).bit_length(), _SMALLEST_PART), LARGEST_PART), size)


def limit_batch(largest: int, size: tuple[int, int]) -> int:
    """The largest power of two of pictures of a size that holds no more pixels than ``largest`` of 256x256.

    Args:
        largest: number of pictures of 256x256 that may run at once, a power of two.
        size: height and width of the pictures.
    """
    fitting = max(largest * PART_PIXELS // (LARGEST_PART * size[0] * size[1]), 1)
    return min(largest, 1 << (fitting.bit_length() - 1))


def split_into_powers(pictures: int, largest: int) -> list[BatchSlice]:
    """Split pictures into runs of ``largest``, a power of two; the rest runs as the next power of two."""
    starts = range(0, pictures, largest)
    counts = [min(largest, pictures - start) for start in starts]
    return [
        BatchSlice(start, count, 1 << (count - 1).bit_length()) for start, count in zip(starts, counts, strict=True)
    ]


def split_exactly(pictures: int, largest: int) -> list[BatchSlice]:
    """Split pictures into runs of ``largest``, a power of two, and ever smaller powers; nothing is filled up.

    For pictures that are read where they lie: behind the last one is memory of somebody else.
    """
    parts, start = [], 0
    while start < pictures:
        count = min(largest, 1 << ((pictures - start).bit_length() - 1))
        parts.append(BatchSlice(start, count, count))
        start += count
    return parts
