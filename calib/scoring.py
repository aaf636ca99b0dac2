"""Logits of a graph in memory over calibration pictures."""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from calib.pictures import PictureStore
from engines.ort import open_session


def score_graph(
    model: onnx.ModelProto,
    pictures: PictureStore,
    indices: Sequence[int],
    *,
    fuse_integers: bool = True,
) -> NDArray[np.float32]:
    """Logits float32 ``(N,)`` of chosen pictures, in their order.

    Args:
        model: a graph that takes raw pixels.
        pictures: store of pictures, read under the graph's contract.
        indices: positions in the store of the pictures to judge.
        fuse_integers: whether ONNX Runtime looks for integer kernels; see ``open_session``.

    Raises:
        UnavailableError: ONNX Runtime is not installed.
    """
    session = open_session(model.SerializeToString(), "a graph being measured", spin=False, fuse_integers=fuse_integers)
    parts = []
    for images in pictures.batches(indices):
        parts.append(session.run(["logit"], {"image": images})[0])
    return np.concatenate(parts)
