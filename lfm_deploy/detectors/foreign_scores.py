"""A foreign detector as a scorer with a reading of its own: its logits go through the cache as those of engines do."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lfm_deploy.config import ModelConfig
from lfm_deploy.detectors.preparation import prepare_picture
from lfm_deploy.errors import UnavailableError
from lfm_deploy.pictures.decoders import PILLOW
from lfm_deploy.pictures.decoding import DECODING_VERSION
from lfm_deploy.pictures.images import ImageBatch, read_batches
from lfm_deploy.pictures.pixel_limit import most_pixels
from lfm_deploy.scoring.identities import Identity, identify_place
from lfm_deploy.scoring.scorers import Reading, Scorer

if TYPE_CHECKING:
    from lfm_deploy.detectors.foreign import ForeignDetector  # loads onnx, which runs without detectors do without


def make_detector_scorer(detector: "ForeignDetector") -> Scorer:
    """A scorer of an opened detector; closing it closes the detector.

    Args:
        detector: detector that gives the logits.
    """
    return Scorer(name=detector.name, identity=_identify(detector), load=lambda: detector, required=True)


def detector_reading(detector: "ForeignDetector", batch: int) -> Reading:
    """Pictures as a detector's contract wants them: resized and cropped, uint8 RGB.

    Args:
        detector: detector that judges them.
        batch: most pictures in a batch.
    """
    contract = detector.contract.input

    def read(paths: Sequence[Path], _: ModelConfig | None) -> Iterator[ImageBatch]:
        return read_batches(paths, contract.side or "native", batch=batch, decode=partial(prepare_picture, contract))

    values = {
        "detector": detector.contract.as_dict()["input"],
        "decoding": DECODING_VERSION,
        "most_pixels": most_pixels(),
        "decoder": PILLOW.describe(),
    }
    return Reading(values=values, read=read)


def _identify(detector: "ForeignDetector") -> Identity | None:
    """All that a logit depends on besides the picture and how it is read; None where the GPU cannot be told."""
    import onnxruntime

    try:
        place = identify_place(detector.device)
    except UnavailableError:
        return None
    about = {
        "file": detector.sha256,
        "output": detector.contract.as_dict()["output"],
        "runtime": detector.runtime,
        "version": onnxruntime.__version__,
        "settings": detector.settings.as_dict(),
    }
    return about | place
