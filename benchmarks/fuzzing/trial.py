"""One bad input: what is run, what came of it, and whether that was right."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuzzing.seeds import Seeds

_LINE = re.compile(r'File "(?P<path>[^"]+)", line (?P<line>\d+)')
_OURS = ("lfm_deploy", "export", "engines", "calib", "training")
_LONGEST_LINE = 6000  # a path of 4096 letters, and what is wrong with it


class Result(StrEnum):
    """What came of a bad input; the first three are as it should be."""

    REFUSED = "refused"
    REPORTED = "reported"
    RIGHT = "right"
    WRONG = "wrong answer"
    OMITTED = "left out"
    TRACEBACK = "traceback"
    HANG = "hang"
    CRASH = "crash"
    MEMORY = "memory"
    MESSAGE = "message"
    CODE = "exit code"
    LEFTOVER = "leftover"
    FUZZER = "fuzzer fails"


GOOD = (Result.REFUSED, Result.REPORTED, Result.RIGHT)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command did.

    Attributes:
        code: exit code; None where it ended otherwise.
        out: text on standard output.
        err: text on standard error.
        new: paths in the folder of the trial that were not there before, relative to it.
        changed: paths in it whose bytes are others now, or that are gone.
    """

    code: int | None
    out: str
    err: str
    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A command on a bad input.

    Attributes:
        arguments: arguments of ``lfm-deploy``.
        what: words for what was done to the input.
        names: names of files of which an error has to say one; empty where any error line will do.
        judge: function that says whether an answer with one of ``codes`` is right, with the reason where it is not.
        codes: exit codes that ``judge`` judges; others are refusals.
        refusable: whether the input may be refused as a whole; not where whole pictures lie beside the bad one.
        may_change: names of files that the command may write.
        heavy: whether it takes seconds, and gets more time.
    """

    arguments: list[str]
    what: str
    names: tuple[str, ...]
    judge: Callable[[Answer], tuple[Result, str]]
    codes: tuple[int, ...] = (0,)
    refusable: bool = True
    may_change: tuple[str, ...] = (".lock",)
    heavy: bool = False


Maker = Callable[[Random, "Seeds", Path], Trial]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of bad input.

    Attributes:
        name: name of the kind.
        make: function that writes one into an empty folder.
        share: part of all inputs that are of this kind, before they are scaled to 1.
        quick: whether ``make test`` has it.
    """

    name: str
    make: Maker
    share: float
    quick: bool


def assess(trial: Trial, answer: Answer) -> tuple[Result, str]:
    """Whether an answer is right, and if not, why."""
    if "Traceback (most recent call last)" in answer.err:
        return Result.TRACEBACK, _describe_traceback(answer.err)
    if answer.code not in (0, 1, 2, 3):
        return Result.CODE, f"exit code {answer.code}"
    if "not enough memory" in answer.err:
        return Result.MEMORY, _last_line(answer.err)
    if left := [name for name in answer.new if Path(name).name.startswith(".lfm-tmp-") or name.endswith(".tmp")]:
        return Result.LEFTOVER, f"leaves {left[0]}"
    if changed := [name for name in answer.changed if Path(name).name not in trial.may_change]:
        return Result.WRONG, f"writes into its input {changed[0]}"
    if answer.code in trial.codes:
        return trial.judge(answer)
    if not trial.refusable:
        return Result.OMITTED, f"exit {answer.code} for one bad entry: {_last_line(answer.err)}"
    return _assess_message(trial, answer)


def _assess_message(trial: Trial, answer: Answer) -> tuple[Result, str]:
    """A refusal is one line, the last one, that begins with "Error:" and names the file."""
    lines = [line for line in answer.err.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    if not last.startswith("Error: ") or sum(line.startswith("Error") for line in lines) != 1:
        return Result.MESSAGE, f"exit {answer.code} without one line that says why: {last[:200]!r}"
    if len(last) > _LONGEST_LINE:
        return Result.MESSAGE, f"a line of {len(last)} letters: {last[:200]!r}"
    if trial.names and not any(name in last for name in trial.names):
        return Result.MESSAGE, f"exit {answer.code} does not name {trial.names[0]}: {last[:300]}"
    return Result.REFUSED, last


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "nothing said"


def _describe_traceback(err: str) -> str:
    """The error, and the last line of this project that it went through."""
    places = [
        f"{'/'.join(Path(found['path']).parts[-2:])}:{found['line']}"
        for found in _LINE.finditer(err)
        if Path(found["path"]).parent.name in _OURS or Path(found["path"]).parent.parent.name in _OURS
    ]
    # What else is printed behind it, such as the error of a thread, is no part of it.
    errors = [
        line for line in err.splitlines() if re.match(r"[\w.]+(Error|Exception|Interrupt|Warning)?\b.*:|\w+$", line)
    ]
    where = [place for place in places if not place.startswith(("cli/__init__", "fuzzing/"))]
    return f"{where[-1] if where else 'outside of this project'}: {(errors[-1] if errors else _last_line(err))[:240]}"
