"""Resizing as the contract says, whatever Pillow is installed: the width first, rounded to a byte, then the height.

Pillow up to version 12 did so in one call. Version 13 takes the height first where it shrinks much more than the width
(its pull request 9549), which changes a sixth of the values of portrait photographs by one level, and the published
checkpoint's logits on them by 1.85 on average. One call for each axis has one order in every version, since a pass that
changes nothing is skipped.
"""

from PIL import Image


def resize_picture(
    picture: Image.Image, width: int, height: int, resample: Image.Resampling = Image.Resampling.BILINEAR
) -> Image.Image:
    """The picture at another size, antialiased, as Pillow 10.4 to 12 resize it, to the bit.

    Args:
        picture: picture of any size and mode that Pillow resizes, a byte a channel.
        width: width to resize to in pixels, at least 1.
        height: height to resize to in pixels, at least 1.
        resample: Pillow's filter.
    """
    # Pillow's own resize copies where there is nothing to do; half a millisecond a picture.
    if picture.width != width:
        picture = picture.resize((width, picture.height), resample)
    if picture.height != height:
        picture = picture.resize((width, height), resample)
    return picture
