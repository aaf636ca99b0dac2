"""A job by a real Ray on this machine, whose processes are killed or hang in the middle of parts; for test_ray_run.

    python tests/ray_killer.py WORKDIR OUT LIST PATIENCE

``hung.tar`` is judged by a process that is stopped once, ``one.tar`` loses its process once, ``two.zip`` each time that
a process has begun it. Prints what came of it as JSON, with the address of its Ray, which other commands may join until
standard input ends.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path

from lfm_deploy.errors import DeployError
from lfm_deploy.pictures.pixel_limit import MOST_PIXELS
from lfm_deploy.prediction import ray_run
from lfm_deploy.prediction.part_run import make_folder
from lfm_deploy.prediction.parts import find_parts
from lfm_deploy.prediction.ray_actor import ActorTask
from lfm_deploy.prediction.ray_cluster import connect, count_actors
from lfm_deploy.prediction.ray_run import RayRun, judge_by_ray
from lfm_deploy.prediction.rows import RowFormat
from lfm_deploy.prediction.tally import JobState

OPTIONS = ("engine", "precision", "threshold", "batch", "decoder")
WANTED = {"hung.tar": (1, signal.SIGSTOP), "one.tar": (1, signal.SIGKILL), "two.zip": (99, signal.SIGKILL)}
# Looking so often, it sees a process in the middle of a part that takes a second.
LOOK_SECONDS = 0.05


def main(workdir: Path, out: Path, listed: str, patience_s: float) -> None:
    """Run the job, print its result, and keep Ray for others."""
    ray_run._LOOK_SECONDS = LOOK_SECONDS
    with connect("local", 2, out.parent / "ray.log") as nodes:
        found = {"room": count_actors(nodes, 1, 0)} | judge_and_kill(workdir, out, listed, patience_s)
        import ray

        print(json.dumps({"address": ray.get_runtime_context().gcs_address} | found), flush=True)
        sys.stdin.read()


def judge_and_kill(workdir: Path, out: Path, listed: str, patience_s: float) -> dict[str, object]:
    """The job, and what came of it."""
    make_folder(out)
    task = ActorTask(
        folder=out,
        form=RowFormat.CSV,
        strict=False,
        overwrite=False,
        workdir=workdir,
        options=dict.fromkeys(OPTIONS) | {"device": "cpu", "batch": 1},
        max_pixels=MOST_PIXELS,
        cores=1,
        place=Path.cwd(),
        host=socket.gethostname(),
        seen=(),
    )
    killed: list[tuple[str, int, int]] = []
    said: list[str] = []

    def kill(_: RayRun, state: JobState) -> None:
        for found in state.under_way:
            most, how = WANTED.get(found.name, (0, signal.SIGKILL))
            before = [process for name, process, _ in killed if name == found.name]
            # In the middle: it has judged some pictures of the part, and its file is not there yet.
            if found.pictures and len(before) < most and found.process not in before:
                os.kill(found.process, how)
                killed.append((found.name, found.process, found.pictures))

    run, error = RayRun(), None
    try:
        judge_by_ray(
            task,
            list(find_parts([f"@{listed}"])),
            actors=2,
            run=run,
            patience_s=patience_s,
            on_message=said.append,
            on_state=kill,
        )
    except DeployError as found:
        error = str(found)
    judged, skipped, unreadable = run.parts.judged, run.parts.skipped, run.parts.unreadable
    return {
        "done": run.done, "judged": judged, "skipped": skipped, "unreadable": unreadable,
        "lost": run.lost, "said": said, "error": error, "killed": killed, "pictures": run.parts.counts.pictures,
    }  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
