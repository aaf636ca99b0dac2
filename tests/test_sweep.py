import json
import sys
import textwrap
from pathlib import Path

import pytest

from lfm_deploy.benchmark.rounds import Effort
from lfm_deploy.benchmark.sweep import Contender, run_sweep

# A worker that measures nothing: it writes down who had a turn, and answers with times that it is told.
SCRIPTED = """
    import json, os, sys
    from pathlib import Path
    from lfm_deploy.errors import UnavailableError
    from lfm_deploy.benchmark.workers import serve

    def open_job(opening):
        path = Path(opening["path"])
        script = json.loads(path.read_text())
        if script.get("open") == "absent":
            raise UnavailableError("no CUDA device")
        if script.get("open") == "dead":
            os._exit(9)

        def work(request):
            with (path.parent / "turns").open("a") as log:
                log.write(f"{path.stem} {request['batch']}\\n")
            if request["batch"] == script.get("dies_at"):
                os._exit(5)
            if request["batch"] == script.get("fails_at"):
                raise RuntimeError("out of arena")
            own = {"peak_memory_mib": 10.0 * request["batch"], "gpu_memory_mib": None, "gpu_clocks": None}
            phases = [[1.0, 2.0, 3.0, 4.0]] if script.get("phased") else []
            return {"times": [0.5] * request["runs"], "phases": phases} | own

        return {"device": "cpu", "pid": os.getpid()}, work

    serve(open_job)
"""
QUICK = Effort(seconds=0.01, rounds=3)


@pytest.fixture
def contend(tmp_path):
    worker = tmp_path / "worker.py"
    worker.write_text(textwrap.dedent(SCRIPTED))

    def contend(name, batches=(1, 4), **script):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(script))
        command = (sys.executable, str(worker))
        return Contender(name=name, path=path, device=None, size=64, batches=batches, command=command)

    return contend


def sweep(*contenders, effort=QUICK):
    return run_sweep(contenders, effort, threads=1, with_ceilings=False)


def turns(tmp_path: Path):
    return (tmp_path / "turns").read_text().splitlines()


def test_workers_take_turns_and_every_point_has_all_rounds(contend, tmp_path):
    found = sweep(contend("a"), contend("b"))
    assert turns(tmp_path) == ["a 1", "b 1", "a 4", "b 4"] * 3
    assert found.about["a"]["pid"] != found.about["b"]["pid"]
    for (_, batch), point in found.points.items():
        assert point.times == [[0.5]] * 3
        assert point.summarise(batch).fps == 2 * batch
        assert point.peak_memory_mib == 10 * batch


def test_a_quotable_effort_asks_for_enough_runs(contend):
    found = sweep(contend("a", batches=(1,)), effort=Effort(seconds=3, rounds=4))
    assert [len(part) for part in found.points["a", 1].times] == [3, 3, 3, 3]  # 10 runs, rounded up


def test_a_worker_that_dies_costs_one_point_and_nobody_else(contend, tmp_path):
    found = sweep(contend("a", batches=(1, 4, 8), dies_at=4), contend("b"))
    assert found.points["a", 4].failure == "its process ended with exit code 5"
    assert [len(found.points["a", batch].times) for batch in (1, 8)] == [3, 3]
    assert [len(found.points["b", batch].times) for batch in (1, 4)] == [3, 3]
    assert turns(tmp_path).count("a 4") == 1


def test_an_error_costs_one_point_too(contend):
    found = sweep(contend("a", fails_at=4))
    assert found.points["a", 4].failure == "RuntimeError: out of arena"
    assert found.points["a", 1].failure is None


def test_what_cannot_run_and_what_failed_are_told_apart(contend):
    found = sweep(contend("absent", open="absent"), contend("dead", open="dead"), contend("a"))
    assert found.not_run == {"absent": "no CUDA device", "dead": "its process ended with exit code 9"}
    assert found.failed == {"dead"}
    assert set(found.about) == {"a"}
    assert {name for name, _ in found.points} == {"a"}


def test_phases_are_kept_where_there_are_some(contend):
    found = sweep(contend("a", batches=(1,), phased=True), contend("b", batches=(1,)))
    assert found.points["a", 1].phases == [[1.0, 2.0, 3.0, 4.0]] * 3
    assert found.points["b", 1].phases == []


def test_progress_counts_every_turn(contend):
    seen = []
    run_sweep([contend("a")], QUICK, threads=1, with_ceilings=False, on_progress=lambda *step: seen.append(step))
    assert [step for step in seen if step[0] == "measuring"] == [("measuring", done, 6) for done in range(7)]
