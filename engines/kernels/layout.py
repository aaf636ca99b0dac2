"""How maps of a batch lie in memory: plainly, or several pictures side by side in rows of one fixed width.

A tile of 256 rows of memory holds two rows of a map where a row is 128 positions long. Maps that are narrower are
placed side by side: with a pitch of 64, picture 2s lies in columns 0-63 of strip s and picture 2s + 1 in columns
64-127. What lies between a map's width and its pitch is never read for a result.
"""

from dataclasses import dataclass

ROW = 128
"""Positions in a row of a strip."""


def power_of_two_in(number: int, largest: int) -> int:
    """The largest power of two that divides a number, at most ``largest``."""
    return min(number & -number, largest)


@dataclass(frozen=True, slots=True)
class Layout:
    """Maps float16 ``(pictures, height, width, channels)`` as rows of ``row`` positions.

    Attributes:
        pictures: number of pictures that have maps.
        height: height of the maps.
        width: width of the maps.
        channels: number of channels of the maps.
        pitch: columns from one picture to the next in a row.
        row: positions in a row of memory.
    """

    pictures: int
    height: int
    width: int
    channels: int
    pitch: int
    row: int

    @classmethod
    def plain(cls, pictures: int, height: int, width: int, channels: int) -> "Layout":
        """One picture after the other, as PyTorch's channels-last tensors lie."""
        return cls(pictures, height, width, channels, width, width)

    @classmethod
    def in_strips(cls, pictures: int, height: int, width: int, channels: int) -> "Layout":
        """Side by side in rows of ``ROW``; the width must not be above that."""
        pitch = 1 << max(width - 1, 1).bit_length()
        return cls(pictures, height, width, channels, pitch, ROW)

    @property
    def across(self) -> int:
        """Pictures side by side."""
        return self.row // self.pitch

    @property
    def strips(self) -> int:
        """Rows of pictures."""
        return -(-self.pictures // self.across)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the memory: strips, rows, positions, channels."""
        return self.strips, self.height, self.row, self.channels
