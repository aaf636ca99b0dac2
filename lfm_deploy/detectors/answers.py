"""From what a foreign detector answers to a score in logits, above 0 for fake, that can stand in one table with LFM's.

    logit l            l - threshold                          logits f, r      (f - r) - threshold
    probability p      log p/(1-p) - log t/(1-t)              softmax f, r     log f/r - log t/(1-t),  t = threshold

All in float64, where no two float32 probabilities have the same log-odds. A probability of exactly 0 or 1 has rounded;
it is taken half a step of its dtype inside, so that it stays beyond all others: of float32, 0 is a logit of -103.97 and
1 is 17.33. Pictures that a network itself rounded to one probability tie, and nothing can part them again.
"""

import math

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.detectors.detector_contract import Meaning, OutputContract
from lfm_deploy.errors import DetectorError

# A softmax in half precision is off by 2^-11 in each of two values; logits taken for probabilities are off by far more.
_TOLERANCE = 0.01


def to_scores(output: NDArray[np.floating], contract: OutputContract, pictures: int) -> NDArray[np.float64]:
    """Scores of a batch.

    Args:
        output: output of the network in float16, float32 or float64: one or two values a picture, pictures first, in
            any shape that holds them.
        contract: meaning of the detector's output.
        pictures: number of pictures in the batch.

    Returns:
        float64 ``(pictures,)``; above 0 is fake. Not a number where the network's answer is none.

    Raises:
        DetectorError: the output has more or fewer values than its meaning, or values that are no probabilities.
    """
    columns = contract.meaning.columns
    if output.size != pictures * columns or (output.ndim and output.shape[0] not in (pictures, pictures * columns)):
        raise DetectorError(
            f"the output of {pictures} pictures is {output.shape}, expected {(pictures, columns)} for meaning "
            f"'{contract.meaning}'"
        )
    values = output.reshape(pictures, columns)
    if contract.meaning.is_probability:
        _check_probabilities(values, contract.meaning)
        scores = _log_odds(values, contract)
    elif contract.meaning is Meaning.LOGITS:
        fake = contract.fake_index or 0
        scores = values[:, fake].astype(np.float64) - values[:, 1 - fake].astype(np.float64)
    else:
        scores = values[:, 0].astype(np.float64)
    return scores - threshold_logit(contract)


def threshold_logit(contract: OutputContract) -> float:
    """The threshold as a logit: what is subtracted from the scores.

    Args:
        contract: meaning of the detector's output, with its threshold.
    """
    if contract.meaning.is_probability:
        return math.log(contract.threshold) - math.log1p(-contract.threshold)
    return contract.threshold


def _check_probabilities(values: NDArray[np.floating], meaning: Meaning) -> None:
    known = values[~np.isnan(values).any(axis=1)].astype(np.float64)
    outside = known[(known < -_TOLERANCE) | (known > 1 + _TOLERANCE)]
    if outside.size:
        other = Meaning.LOGITS if meaning is Meaning.SOFTMAX else Meaning.LOGIT
        raise DetectorError(
            f"the output has {outside[0]:g}, which is no probability; is its meaning '{other}' and not '{meaning}'?"
        )
    if meaning is Meaning.SOFTMAX and (np.abs(known.sum(axis=1) - 1) > _TOLERANCE).any():
        first, second = known[np.argmax(np.abs(known.sum(axis=1) - 1))]
        raise DetectorError(
            f"the output has {first:g} and {second:g}, which do not add up to 1; is its meaning 'logits' and not "
            "'softmax'?"
        )


def _log_odds(values: NDArray[np.floating], contract: OutputContract) -> NDArray[np.float64]:
    kind = np.finfo(values.dtype)
    # A logarithm, because half the smallest float64 is no float64.
    below_all = math.log(float(kind.smallest_subnormal)) - math.log(2)
    fake = np.clip(values[:, contract.fake_index or 0].astype(np.float64), 0, 1)
    with np.errstate(divide="ignore"):
        log_fake = np.where(fake == 0, below_all, np.log(fake))
        if contract.meaning is Meaning.SOFTMAX:
            real = np.clip(values[:, 1 - (contract.fake_index or 0)].astype(np.float64), 0, 1)
            log_real = np.where(real == 0, below_all, np.log(real))
        else:
            log_real = np.where(fake == 1, math.log(float(kind.epsneg) / 2), np.log1p(-fake))
    return np.asarray(log_fake - log_real)
