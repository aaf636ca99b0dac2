from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from lfm_deploy.metrics.estimate import Estimate
from lfm_deploy.metrics.gate import judge_exactly, judge_interval
from lfm_deploy.verification.verification_result import EngineResult, Verification

HOLDS, FAILS = judge_exactly("suite", "flips", 0, 0), judge_exactly("suite", "flips", 1, 0)
UNDECIDED = judge_interval("suite", "|ΔACC| in points", Estimate(0, 0, 14.2), 0.1, pictures=24, need=3688)


def row(*gates, kind="engine", not_run=None):
    return EngineResult(
        name="one", path=Path("one.onnx"), place="here", sha256="", precision="fp32", kind=kind, gates=gates,
        not_run=not_run,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "outcome"),
    [
        ([row(HOLDS), row(HOLDS)], "passed"),
        ([row(HOLDS), row(UNDECIDED)], "undecided"),
        ([row(UNDECIDED), row(HOLDS, FAILS)], "failed"),
        ([row(UNDECIDED, FAILS)], "failed"),
        ([row(not_run="no CUDA device")], "nothing"),
        ([row(HOLDS), row(not_run="no CUDA device")], "passed"),
        ([row(kind="detector")], "nothing"),
        ([], "nothing"),
    ],
)
def test_the_verdict_is_of_the_engines_that_ran_beside_the_reference(rows, outcome):
    found = Verification(engines=(row(kind="reference"), *rows))
    assert found.outcome == outcome
    assert found.passed is (outcome == "passed")
    assert found.compared == [one for one in rows if one.kind == "engine" and one.not_run is None]


def test_a_verification_cannot_be_changed():
    found = Verification(engines=(row(kind="reference"),))
    with pytest.raises(FrozenInstanceError):
        found.engines = ()
