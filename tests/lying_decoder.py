"""A decoder whose pixels are a level off: what a self-test and a verification must notice."""

import numpy as np

from lfm_deploy.pictures.decoders import PictureDecoder, open_decoder


class LyingJpegs:
    """simplejpeg's pixels, all of them one level brighter."""

    name = "simplejpeg"
    before_resize = True
    versions = {"simplejpeg": "a level off"}  # noqa: RUF012  # read alone

    def __init__(self):
        self._honest = open_decoder("simplejpeg").jpeg

    def decode(self, content, slot):
        found = self._honest.decode(content, None)
        if found is None:
            return None
        shifted = (np.minimum(found[:, :, :3], 254) + 1).astype(np.uint8)
        if slot is None:
            return shifted
        slot[...] = shifted
        return slot


def lying_decoder():
    return PictureDecoder(name="simplejpeg", jpeg=LyingJpegs())
