"""Running a command inside of this process, or as a process of its own, with its output in files."""

import contextlib
import gc
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import IO

from fuzzing.trial import Answer, Result, Trial, assess

MOST_BYTES = 3 << 30
ODD = "a special file"


def run_inside(arguments: list[str]) -> Answer:
    """Run the command line in this process; what it prints, also below Python, goes into files."""
    from lfm_deploy.cli import run

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        kept = [(stream, os.dup(stream)) for stream in (0, 1, 2)]
        before = sys.stdin, sys.stdout, sys.stderr
        code: int | None = None
        nothing = os.open(os.devnull, os.O_RDONLY)
        for stream, source in zip((0, 1, 2), (nothing, out.fileno(), err.fileno()), strict=True):
            os.dup2(source, stream)
        sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        try:
            code = run(arguments)
        except BaseException:  # what escapes is what is looked for
            traceback.print_exc()
        finally:
            for file in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    file.flush()
            sys.stdin, sys.stdout, sys.stderr = before
            for stream, copy in kept:
                os.dup2(copy, stream)
                os.close(copy)
            os.close(nothing)
        gc.collect()
        return Answer(code, _read(out), _read(err))


def run_command(arguments: list[str], seconds: float) -> Answer:
    """Run the command line as a user does, in a process with an address space of 3 GiB.

    Raises:
        subprocess.TimeoutExpired: it takes longer.
    """
    command = ["prlimit", f"--as={MOST_BYTES}", sys.executable, "-m", "lfm_deploy", *arguments]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=seconds, check=False)
    code = done.returncode if done.returncode >= 0 else None
    out, err = (text.decode(errors="surrogateescape") for text in (done.stdout, done.stderr))
    return Answer(code, out, err)


def try_one(trial: Trial, folder: Path, *, as_command: bool, seconds: float) -> tuple[Result, str, Answer]:
    """Run a trial that was made in a folder, and judge what came of it."""
    before = _list_files(folder)
    _forget_peak()
    if as_command:
        try:
            answer = run_command(trial.arguments, seconds)
        except subprocess.TimeoutExpired:
            return Result.HANG, f"runs for more than {seconds:.0f} s", Answer(None, "", "")
    else:
        answer = run_inside(trial.arguments)
    peak = _peak_bytes()
    after = _list_files(folder)
    answer = Answer(
        answer.code,
        answer.out,
        answer.err,
        tuple(name for name in after if name not in before),
        tuple(name for name, digest in before.items() if after.get(name) != digest),
    )
    if peak > MOST_BYTES:
        return Result.MEMORY, f"{peak >> 20} MiB", answer
    if as_command and answer.code is None:
        return Result.CRASH, answer.err[-300:], answer
    return *assess(trial, answer), answer


def name_signal(number: int) -> str:
    """The name of a signal, such as ``SIGSEGV``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="surrogateescape")


def _list_files(folder: Path) -> dict[str, str]:
    """What lies in a folder, by path, with a digest of its bytes."""
    found: dict[str, str] = {}
    for root, _, names in os.walk(os.fsencode(folder)):
        for name in names:
            path = os.path.join(root, name)  # noqa: PTH118  # bytes: names need not be text
            key = os.fsdecode(os.path.relpath(path, os.fsencode(folder)))
            if os.path.islink(path) or not os.path.isfile(path):  # noqa: PTH113, PTH114
                found[key] = ODD
                continue
            try:
                with open(path, "rb") as file:  # noqa: PTH123
                    found[key] = hashlib.file_digest(file, "md5").hexdigest()
            except OSError:
                found[key] = ODD
    return found


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # then the peak is that of the whole process, which is no less


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10
