from pathlib import Path

import numpy as np
import pytest

from lfm_deploy.deployment.lineup import find_candidates
from lfm_deploy.errors import MetricError
from lfm_deploy.quantisation import Budget
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.verification.engine_rows import EngineRun, describe_engine, describe_reference

LABELS = np.arange(24) % 2
LOGITS = np.random.default_rng(0).normal(size=24).astype(np.float32) + 2 * LABELS.astype(np.float32) - 1


def scored(logits, start=0):
    paths = tuple(Path(f"{index}.png") for index in range(start, start + 24))
    return {"suite": [("set", Scores(paths=paths, labels=LABELS, logits=logits))]}


@pytest.fixture
def candidates(small_workdir):
    return find_candidates(small_workdir, "cpu")


@pytest.fixture
def reference(candidates):
    return describe_reference(EngineRun(candidate=candidates[0], scores=scored(LOGITS), cached=7))


def test_the_reference_is_judged_by_nothing(reference):
    assert (reference.kind, reference.name, reference.gates, reference.cached) == ("reference", "pytorch fp32", (), 7)
    assert reference.suites[0].against is None
    assert reference.suites[0].mean.acc.value == ((LOGITS > 0) == (LABELS == 1)).mean()


def test_an_engine_is_judged_against_the_reference(candidates, reference):
    same = describe_engine(EngineRun(candidate=candidates[1], scores=scored(LOGITS)), reference, None)
    turned = describe_engine(EngineRun(candidate=candidates[1], scores=scored(-LOGITS)), reference, None)
    assert (same.kind, same.failed, same.suites[0].against.flips) == ("engine", False, 0)
    assert (turned.failed, turned.suites[0].against.flips) == (True, 24)


def test_limits_replace_those_of_half_precision(deployment, reference):
    half = next(one for one in find_candidates(deployment, "cpu") if one.path.name == "lfm.fp16.onnx")
    run = EngineRun(candidate=half, scores=scored(LOGITS))
    row = describe_engine(run, reference, Budget(acc=20, ap=20, flips=20))
    assert {gate.limit for gate in row.gates if "Δ" in gate.name} == {2e-2, 20}
    assert {gate.limit for gate in describe_engine(run, reference, None).gates if "Δ" in gate.name} == {2e-2, 0.1}


def test_what_did_not_run_has_its_reason_alone(candidates, reference):
    row = describe_engine(EngineRun(candidate=candidates[1], scores={}, not_run="no CUDA device"), reference, None)
    assert (row.not_run, row.suites, row.gates, row.memory) == ("no CUDA device", (), (), None)


def test_other_pictures_cannot_be_compared(candidates, reference):
    with pytest.raises(MetricError, match="the same pictures in the same order"):
        describe_engine(EngineRun(candidate=candidates[1], scores=scored(LOGITS, start=1)), reference, None)
