"""Which parts of a list are this process's: every 64th of them, say, as it was told or as its scheduler tells it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lfm_deploy.errors import ConfigError

_KUBERNETES_INDEX = "JOB_COMPLETION_INDEX"
# Kubernetes tells a pod its index and not how many there are; the example in docs/ sets this one.
_KUBERNETES_COUNT = "JOB_COMPLETIONS"
_SLURM = "SLURM_ARRAY_TASK_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One of several equal shares of the parts of a list.

    Attributes:
        number: number of the share, from 1.
        count: number of shares.
        origin: name of what said so, for people.
    """

    number: int = 1
    count: int = 1
    origin: str = "default"

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ConfigError(
                f"{self.origin}: part {self.number} of {self.count}, expected 1 to their number, as in --part 3/64"
            )

    def holds(self, position: int) -> bool:
        """Whether the part at a position of the list, from 0, belongs to the share."""
        return position % self.count == self.number - 1

    def count_of(self, total: int) -> int:
        """How many parts of a list of so many belong to the share."""
        return len(range(self.number - 1, total, self.count))


def find_share(text: str | None, environment: Mapping[str, str]) -> Share:
    """The share that was asked for, else that of a Slurm array or a Kubernetes Indexed Job, else all.

    Args:
        text: share as in ``"3/64"``; None where nobody asked.
        environment: variables of the environment.

    Raises:
        ConfigError: the share is no such text, or the scheduler's variables leave open which share it is.
    """
    if text is not None:
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if match is None:
            raise ConfigError(f"--part: {text!r} is no part of a whole; expected N/COUNT, as in --part 3/64")
        return Share(number=int(match[1]), count=int(match[2]), origin="--part")
    if f"{_SLURM}ID" in environment:
        return _read_slurm(environment)
    if _KUBERNETES_INDEX in environment:
        index = _read_number(environment, _KUBERNETES_INDEX)
        return Share(number=index + 1, count=_read_number(environment, _KUBERNETES_COUNT), origin=_KUBERNETES_INDEX)
    return Share()


def _read_slurm(environment: Mapping[str, str]) -> Share:
    number, count = (_read_number(environment, f"{_SLURM}{name}") for name in ("ID", "COUNT"))
    first = _read_number(environment, f"{_SLURM}MIN", default=1)
    step = _read_number(environment, f"{_SLURM}STEP", default=1) or 1
    position, rest = divmod(number - first, step)
    if rest or not 0 <= position < count:
        raise ConfigError(
            f"{_SLURM}ID: task {number} of {count} from {first} in steps of {step} is no part of a whole; use an array "
            "without gaps, as in --array=1-64, or --part"
        )
    return Share(number=position + 1, count=count, origin=f"{_SLURM}ID")


def _read_number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch("[0-9]{1,9}", text):
        said = "is not set" if text is None else f"is {text!r}, expected a number"
        raise ConfigError(f"{name}: {said}; set it to what the scheduler has, or use --part, as in --part 3/64")
    return int(text)
