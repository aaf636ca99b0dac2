"""Every error that lfm-deploy raises on purpose, and the exit code that goes with it.

A message says what is wrong, where, and what to do next, on one line. The command line prints it and
exits with ``exit_code``; nothing else in the project calls ``sys.exit``.
"""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches


def first_line(error: Exception) -> str:
    """The first line of what a library's error says, or its class where it says nothing; for messages of one line."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names that are closest to a mistyped one, for "did you mean ...?".

    Args:
        name: name as it was typed; upper and lower case count as equal.
        known: names that exist.

    Returns:
        ``'a'``, or ``'a' or 'b'`` where several are equally close, quoted; empty where none is close.
    """
    spelled = {option.lower(): option for option in known}
    typed = name.lower()
    close = get_close_matches(typed, spelled, n=3)
    likeness = {option: SequenceMatcher(None, option, typed).ratio() for option in close}
    most = max(likeness.values(), default=0.0)
    best = [repr(spelled[option]) for option in spelled if likeness.get(option) == most]
    return " or ".join(filter(None, [", ".join(best[:-1]), *best[-1:]]))


class DeployError(Exception):
    """A step failed. Exit code 1."""

    exit_code = 1


class GateError(DeployError):
    """A gate did not hold: an artifact differs from the checkpoint by more than it may."""


class BuildError(DeployError):
    """A library refused to build, parse or serialise something that we made."""


class InputError(DeployError):
    """What the user gave is wrong: a file, a folder or an option. Exit code 2."""

    exit_code = 2


class ConfigError(InputError):
    """An option's value makes no sense."""


class CheckpointError(InputError):
    """A file is not a checkpoint of LFM that can be read safely."""


class ArtifactError(InputError):
    """An ONNX file, engine or sidecar is damaged, stale or not ours."""


class OtherGpuError(ArtifactError):
    """An engine was built for another GPU than this machine's."""


class ContractError(InputError):
    """An artifact was made for other pictures than the ones it is asked to judge."""


class ImageError(InputError):
    """A picture cannot be read, or cannot be judged at the asked size."""


class DetectorError(InputError):
    """The description of a foreign detector is wrong, or its network contradicts it."""


class ShapeError(InputError):
    """An array does not have the shape or dtype that an engine takes."""


class SuiteError(InputError):
    """Test data is missing or does not have the expected folders."""


class MetricError(InputError):
    """A metric is undefined for the given scores."""


class UnavailableError(DeployError):
    """What was asked for cannot run on this machine: no GPU, or a library is missing. Exit code 3."""

    exit_code = 3


class DecoderError(UnavailableError):
    """Pictures are decoded or resized to other pixels on this machine than the contract's."""
