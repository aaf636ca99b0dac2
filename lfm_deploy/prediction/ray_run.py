"""Parts of a list by Ray Data: the same files that one process writes, one after the other, on as many as there are."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lfm_deploy.errors import DeployError, UnavailableError, first_line
from lfm_deploy.pictures.left_out import LeftOut
from lfm_deploy.prediction.part_files import PartCounts
from lfm_deploy.prediction.part_run import PartRun
from lfm_deploy.prediction.parts import Part
from lfm_deploy.prediction.ray_actor import ActorTask, PartActor, pack_part
from lfm_deploy.prediction.tally import JobState, Tally, UnderWay

_LOOK_SECONDS = 0.25
# An engine that is built when it is opened takes minutes, and so does a shard of gigabytes on its way out of a store.
PATIENCE_SECONDS = 3600.0


class ActorError(DeployError):
    """What a process of the job ended on, with the exit code that it has in ``predict``."""

    def __init__(self, line: str, exit_code: int) -> None:
        """Say it in one line.

        Args:
            line: line of the error.
            exit_code: exit code of the command.
        """
        super().__init__(line)
        self.exit_code = exit_code


@dataclass(slots=True, kw_only=True)
class RayRun:
    """What a job has done so far.

    Attributes:
        done: number of parts that are done, judged or not.
        parts: counts of the parts, as one process has them.
        left_out: counter of what is passed over in shards.
        lost: reasons by name of the parts that no process has survived.
        is_proved: whether the detector's range was proved.
    """

    done: int = 0
    parts: PartRun = field(default_factory=PartRun)
    left_out: LeftOut = field(default_factory=LeftOut)
    lost: dict[str, str] = field(default_factory=dict)
    is_proved: bool = False

    def add(self, answer: dict[str, Any], part: Part) -> None:
        """Count what an actor has answered.

        Args:
            answer: values from ``PartActor``.
            part: the part that it is on.

        Raises:
            ActorError: the answer is an error.
        """
        if "error" in answer:
            raise ActorError(answer["error"], answer["exit_code"])
        self.done += 1
        if "lost" in answer:
            self.lost[part.name] = answer["lost"]
            return
        found = answer["run"]
        self.parts.judged += found["judged"]
        self.parts.skipped += found["skipped"]
        self.parts.unreadable += found["unreadable"]
        self.parts.counts += PartCounts(**found["counts"])
        self.left_out.update(answer["left_out"])
        self.is_proved = answer["proved"]


def judge_by_ray(
    task: ActorTask,
    parts: Sequence[Part],
    *,
    actors: int,
    cards: int = 0,
    run: RayRun | None = None,
    patience_s: float = PATIENCE_SECONDS,
    on_message: Callable[[str], Any] = lambda _: None,
    on_state: Callable[[RayRun, JobState], Any] = lambda *_: None,
) -> RayRun:
    """Judge the parts that have no valid file yet, by actors of a cluster that ``connect`` has joined.

    An actor that dies is replaced, and its part judged again, until three have died of it. One that hangs is ended.

    Args:
        task: settings of the job.
        parts: parts to judge.
        actors: number of actors.
        cards: number of GPUs of each actor.
        run: count to go on from, which is right at every moment; None is a new one.
        patience_s: seconds without a picture after which an actor hangs.
        on_message: function that is given each different line of the actors, and one on each that hangs.
        on_state: function that is told, four times a second and from a thread of its own, how far the job is.

    Raises:
        DeployError: an actor could not do its work, or Ray could not.
    """
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    run = run or RayRun()
    DataContext.get_current().enable_progress_bars = False
    # Wherever it runs, it must not wait for a core; a new one counts anew, and forgets only who died before.
    tally = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Tally).remote()

    def call(method: str, *arguments: Any) -> Any:
        return ray.get(getattr(tally, method).remote(*arguments))

    answers = ray.data.from_items(
        [pack_part(number, part) for number, part in enumerate(parts)], override_num_blocks=len(parts)
    ).map_batches(
        PartActor,
        fn_constructor_args=(task, call),
        batch_size=1,
        batch_format="numpy",
        # One at a time, so that no part waits behind another while an actor is idle.
        compute=ActorPoolStrategy(size=min(actors, len(parts)), max_tasks_in_flight_per_actor=1),
        # Ray replaces an actor that died and gives it the same row, without end; the actors count how often.
        num_cpus=task.cores,
        num_gpus=cards,
    )
    said: set[str] = set()
    ended: set[UnderWay] = set()

    def look(state: JobState) -> None:
        on_state(run, state)
        for found in find_hung(state, patience_s, ended):
            on_message(describe_hung(found))
            ray.kill(found.actor, no_restart=False)

    try:
        with _watching(call, look):
            for batch in answers.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
                for answer in map(json.loads, batch["answer"]):
                    for line in answer["messages"]:
                        if line not in said:
                            on_message(line)
                        said.add(line)
                    run.add(answer, parts[answer["number"]])
    except ray.exceptions.RayError as error:
        raise _explain(error) from None
    if run.lost:
        name, reason = next(iter(run.lost.items()))
        others = f"; so with {len(run.lost) - 1} more" if len(run.lost) > 1 else ""
        raise DeployError(f"{name}: not judged: {reason}{others}; look into this part, all others are done")
    return run


def find_hung(state: JobState, patience_s: float, ended: set[UnderWay]) -> list[UnderWay]:
    """Pieces of work whose processes hang and were not ended yet; they count as ended from now on.

    Args:
        state: job as it is now.
        patience_s: seconds without a picture after which a process hangs.
        ended: pieces whose processes were ended before.
    """
    found = [one for one in state.under_way if one.idle_s > patience_s and one.actor is not None and one not in ended]
    ended.update(found)
    return found


def describe_hung(found: UnderWay) -> str:
    """A line on a process that hangs.

    Args:
        found: piece of work that the process has begun.
    """
    since = f"{found.idle_s / 60:.0f} minutes" if found.idle_s >= 120 else f"{found.idle_s:.0f} seconds"
    return (
        f"{found.name}: process {found.process} on {found.host} has judged nothing for {since}; it is ended, and the "
        "work begun again (--patience)"
    )


@contextmanager
def _watching(call: Callable[..., Any], on_state: Callable[[JobState], Any]) -> Iterator[None]:
    """Tell how far the job is while the block runs."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS):
            try:
                on_state(call("read"))
            except Exception:  # the job says in its own thread what ended it
                return

    thread = threading.Thread(target=watch, name="lfm-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=2 * _LOOK_SECONDS)


def _explain(error: Exception) -> DeployError:
    """What stopped Ray, by the last line of the traceback that its error is."""
    lines = str(error).strip().splitlines()
    last = lines[-1].strip() if lines else first_line(error)
    if "ModuleNotFoundError" in last:
        return UnavailableError(
            f"a machine of the cluster cannot do this work: {last}; install this version of lfm-deploy with its extra "
            "'ray' in the Python of every machine"
        )
    return DeployError(f"Ray could not go on: {last}")
