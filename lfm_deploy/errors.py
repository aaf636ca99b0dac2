"""Every error that lfm-deploy raises on purpose, and the exit code that goes with it.

A message says what is wrong, where, and what to do next, on one line. The command line prints it and
exits with ``exit_code``; nothing else in the project calls ``sys.exit``.
"""

import errno
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

# What the user named: a path that is missing, of another kind, or not theirs to use. The rest is the machine's.
_USERS = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)
# How libraries say that memory, or address space for a library or a thread, is used up.
_OF_MEMORY = (
    "bad_alloc",
    "bad alloc",
    "failed to allocate",
    "cannot allocate",
    "can't allocate",
    "could not allocate",
    "unable to allocate",
    "tried to allocate",
    "out of memory",
    "not enough memory",
    "insufficient memory",
    "failed to map segment",
    "can't start new thread",
    "pthread_create",
    "resource temporarily unavailable",
)
# The longest path has 4,096 letters. What to do next stands at the end.
_LONGEST, _END = 5000, 300


def first_line(error: Exception) -> str:
    """The first line of what a library's error says, or its class where it says nothing; for messages of one line."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def is_out_of_memory(error: Exception) -> bool:
    """Whether a library's error says in its own words that an allocation failed; few of them raise MemoryError."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _OF_MEMORY)


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


class DeployWarning(UserWarning):
    """Something was mended or passed over, and the work goes on; the command line prints it on one line."""


class DeployError(Exception):
    """A step failed. Exit code 1."""

    exit_code = 1

    def __str__(self) -> str:
        """The message on one line that fits on a screen, whatever a damaged file put into it."""
        text = " ".join(super().__str__().splitlines())
        return text if len(text) <= _LONGEST else f"{text[:-_END][: _LONGEST - _END]} ... {text[-_END:]}"


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


class UnknownFormatError(ImageError):
    """A file is no picture of a format that is known here."""


class TooManyPixelsError(ImageError):
    """A picture has more pixels than may be decoded."""


class DetectorError(InputError):
    """The description of a foreign detector is wrong, or its network contradicts it."""


class ShapeError(InputError):
    """An array does not have the shape or dtype that an engine takes."""


class SuiteError(InputError):
    """Test data is missing or does not have the expected folders."""


class MetricError(InputError):
    """A metric is undefined for the given scores."""


def exit_code_of(error: OSError) -> int:
    """The exit code for an error of the system: 2 for what the user named, 1 for a full disk and the like."""
    return InputError.exit_code if error.errno in _USERS else DeployError.exit_code


class WriteError(DeployError):
    """A file or folder cannot be written. Exit code 2 where the place is at fault, 1 for a full disk and the like."""

    def __init__(self, where: object, error: OSError, remedy: str) -> None:
        """Say it in one line.

        Args:
            where: path of the file or folder.
            error: error of the system.
            remedy: advice for the message.
        """
        super().__init__(f"{where}: cannot be written: {error.strerror or error}; {remedy}")
        self.exit_code = exit_code_of(error)


class StoreError(DeployError):
    """A store of files refuses, or is out of reach. Exit code 1: another try may succeed."""


class RefusedError(StoreError, InputError):
    """A store refuses what the user named: no such bucket, or not theirs to use. Exit code 2."""

    exit_code = 2


class UnavailableError(DeployError):
    """What was asked for cannot run on this machine: no GPU, or a library is missing. Exit code 3."""

    exit_code = 3


class DecoderError(UnavailableError):
    """Pictures are decoded or resized to other pixels on this machine than the contract's."""


def missing_library(error: ImportError, name: str, remedy: str) -> UnavailableError:
    """The error that says why a library is not there: not installed, or one that cannot be loaded.

    Args:
        error: error of the import.
        name: name of the library, for people.
        remedy: command that installs it.

    Raises:
        MemoryError: the library is there, and there is no memory for it.
    """
    if is_out_of_memory(error):
        raise MemoryError(first_line(error))
    reason = "is not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be loaded ({first_line(error)})"
    return UnavailableError(f"{name}: not run: it {reason}; run '{remedy}'")
