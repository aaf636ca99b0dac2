"""``lfm-deploy predict --ray``: the shards of ``--output-dir`` by actors of Ray, on this machine or on many."""

import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfm_deploy.cli.console import say
from lfm_deploy.cli.part_jobs import PartJob, say_result
from lfm_deploy.errors import DeployError, UnavailableError, WriteError
from lfm_deploy.machine import count_cores
from lfm_deploy.pictures.pixel_limit import most_pixels
from lfm_deploy.prediction.parts import Part
from lfm_deploy.prediction.ray_actor import MARKER, ActorTask
from lfm_deploy.prediction.ray_cluster import connect, count_actors, share_cores
from lfm_deploy.prediction.ray_run import PATIENCE_SECONDS, RayRun, judge_by_ray
from lfm_deploy.prediction.rows import RowFormat
from lfm_deploy.storage.places import Place, as_place
from lfm_deploy.workdir import Workdir

if TYPE_CHECKING:
    from lfm_deploy.prediction.tally import JobState

_INTERRUPTED, _TERMINATED = 130, 143
_LOG = "ray.log"


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which a scheduler sends before it takes the machine away."""


def run_on_ray(
    job: PartJob,
    workdir: Workdir,
    options: Mapping[str, Any],
    form: RowFormat,
    *,
    address: str,
    actors: int | None,
    cores: int | None,
    patience: int | None,
    strict: bool,
    overwrite: bool,
) -> int:
    """Judge the parts of a job by Ray, and say what became of them.

    Args:
        job: parts with their folder.
        workdir: folder of the deployment.
        options: further arguments for ``open_judge``.
        form: format of the rows.
        address: ``"local"``, or the address of a cluster.
        actors: number of actors; None is as many as there is room for.
        cores: number of cores of each; None is one, or with a GPU each an equal share of the cores.
        patience: minutes without a picture after which an actor hangs; None is the usual time.
        strict: whether a picture that cannot be judged stops it.
        overwrite: whether parts that have a file are judged again, too.

    Returns:
        Exit code: 1 where there were pictures and not one of them could be judged.
    """
    run, parts = RayRun(left_out=job.left_out), list(job.parts)
    log = (job.folder if isinstance(job.folder, Path) else Path()) / _LOG  # a log grows line by line, no object does
    cards = _count_cards(options)
    started = time.monotonic()
    try:
        with (
            _removing_if_refused(log, run),
            _rays_messages_into(log),
            connect(address, max(count_cores(), (actors or 0) * (cores or 1)), log) as nodes,
            _sigterm_as_interrupt(),
            _marking(job.folder) as marker,
        ):
            cores = cores or share_cores(nodes, cards)
            each = f"{cores} core{'' if cores == 1 else 's'}{' and a GPU' if cards else ''}"
            actors = actors or count_actors(nodes, cores, cards)
            if not actors:
                raise UnavailableError(
                    f"--ray {address}: no machine has {each} for an actor; use fewer --actor-cores, or name --actors "
                    "where machines are added when they are wanted"
                )
            actors = min(actors, len(parts))
            say(f"Ray, {address}: {actors} actor{'' if actors == 1 else 's'} of {each}; Ray's messages go to {log}")
            task = ActorTask(
                folder=job.folder,
                form=form,
                strict=strict,
                overwrite=overwrite,
                workdir=workdir.path,
                options=dict(options) | {"device": "cuda" if cards else "cpu"},
                max_pixels=most_pixels(),
                cores=cores,
                place=Path.cwd(),
                host=socket.gethostname(),
                seen=_find_seen(marker, workdir.path, options["engine"], parts),
            )
            with _job_bar(len(parts)) as show:
                judge_by_ray(
                    task,
                    parts,
                    actors=actors,
                    cards=cards,
                    run=run,
                    patience_s=PATIENCE_SECONDS if patience is None else 60.0 * patience,
                    on_message=say,
                    on_state=show,
                )
    except (KeyboardInterrupt, SystemExit) as stop:  # of SIGTERM while it starts, Ray makes the latter
        terminated = isinstance(stop, _Terminated | SystemExit)
        word = "Terminated" if terminated else "Interrupted"
        say(f"{word} after {run.done} of {len(parts)} parts; the same command again continues.")
        return _TERMINATED if terminated else _INTERRUPTED
    return say_result(run.parts, job, time.monotonic() - started, is_proved=run.is_proved)


def _count_cards(options: Mapping[str, Any]) -> int:
    """GPUs of each actor: one where the engine is to run on one, which Ray then gives it alone."""
    device, engine = options["device"], options["engine"]
    if device not in (None, "cpu", "cuda"):
        raise click.UsageError(f"--ray gives each actor a card of its own: use --device cuda, not {device}")
    return int(device == "cuda" or (device is None and engine is not None and engine.suffix == ".engine"))


def _find_seen(marker: Path | None, workdir: Path, engine: Path | None, parts: Sequence[Part]) -> tuple[Path, ...]:
    """Paths that are there, and must be on each machine; a store says by itself who may not see it."""
    graphs = sorted(workdir.glob("*.onnx")) if engine is None else [engine]
    candidates = [Path.cwd(), marker, workdir, *graphs, as_place(parts[0].first)]
    return tuple(path.absolute() for path in candidates if isinstance(path, Path) and path.exists())


@contextmanager
def _marking(folder: Place) -> Iterator[Path | None]:
    """A file in the folder of the results, by which a machine knows that it sees this one; None in a store."""
    if not isinstance(folder, Path):
        yield None
        return
    marker = folder / f"{MARKER}{secrets.token_hex(8)}"
    try:
        marker.touch()
    except OSError as error:
        raise WriteError(folder, error, "choose another --output-dir") from None
    try:
        yield marker
    finally:
        with suppress(OSError):
            marker.unlink()


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    def end(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _removing_if_refused(log: Path, run: RayRun) -> Iterator[None]:
    """Take a log that is new away again where nothing was judged and the error, all there is to know, names none."""
    is_new = not log.exists()
    try:
        yield
    except DeployError as error:
        refused = error.exit_code != DeployError.exit_code and not run.done
        if is_new and refused and str(log) not in str(error):
            log.unlink(missing_ok=True)
        raise


@contextmanager
def _rays_messages_into(log: Path) -> Iterator[None]:
    """What Ray prints, and what its native code writes past Python, goes into a file; ours goes where it went.

    Ray prints on standard output, where predict has nothing to say with --output-dir.
    """
    try:
        file = log.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError as error:
        raise WriteError(log, error, "choose another --output-dir") from None
    with file, redirect_stdout(file), _descriptor_into(file.fileno()):
        yield


@contextmanager
def _descriptor_into(target: int) -> Iterator[None]:
    """Descriptor 2 leads elsewhere while the block runs; ``sys.stderr`` does not."""
    stream = sys.stderr
    try:
        before = os.dup(2)
    except OSError:  # stderr was closed, and nobody would read it
        yield
        return
    stream.flush()
    os.dup2(target, 2)
    try:
        ours = os.fdopen(os.dup(before), "w", encoding=stream.encoding, errors=stream.errors, buffering=1)
        with ours, redirect_stderr(ours):
            yield
    finally:
        os.dup2(before, 2)
        os.close(before)


@contextmanager
def _job_bar(total: int) -> Iterator[Callable[[RayRun, "JobState"], Any]]:
    """A bar over the whole job on stderr, while it is watched: parts done, pictures, pictures a second."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("parts  {task.fields[said]}", markup=False),
        TimeRemainingColumn(),
    )
    # Standard output is Ray's log here.
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden, redirect_stdout=False) as progress:
        task = progress.add_task("judging", total=total, said="opening engines")
        started: list[float] = []

        def show(run: RayRun, state: "JobState") -> None:
            if not state.pictures:
                progress.update(task, completed=run.done)
                return
            now = time.monotonic()
            started[:] = started or [now]
            rate = state.pictures / (now - started[0]) if now > started[0] else 0.0
            progress.update(task, completed=run.done, said=f"{state.pictures:,} pictures  {rate:,.0f} a second")

        yield show
