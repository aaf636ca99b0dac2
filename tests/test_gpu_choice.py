import json
from functools import partial

import numpy as np
import pytest

from engines import gpu_choice
from engines.gpu_choice import choose_gpu_settings, list_ways
from engines.gpu_settings import PLAIN, GpuSettings
from engines.ort import OrtEngine
from lfm_deploy.artifacts import Precision
from lfm_deploy.errors import GateError, UnavailableError

CARD = {"gpu": "a card", "sm": "sm90", "driver": 1, "versions": {}}


class Shifted:
    """The graph on the CPU, a little off."""

    def __init__(self, engine, shift):
        self._engine, self._shift = engine, shift

    def logits(self, images):
        return self._engine.logits(images[:16]) + np.float32(self._shift)

    def close(self):
        self._engine.close()


@pytest.fixture
def choose(own_deployment, monkeypatch):
    """Choose with ways that run on the CPU in place of a card, each this far from the graph; None cannot run."""
    monkeypatch.setattr(gpu_choice, "describe_card", lambda _: CARD)
    monkeypatch.setattr(gpu_choice, "_PICTURES", 16)
    graph = own_deployment.graph(Precision.FP16)

    def open_way(shifts, path, _, settings):
        shift = shifts[settings]
        if shift is None:
            raise UnavailableError(f"{settings}: not run: not there")
        return Shifted(OrtEngine(path, spin=False), shift)

    def choose(*shifts):
        monkeypatch.setattr(gpu_choice, "open_way", partial(open_way, dict(zip(list_ways(), shifts, strict=True))))
        return choose_gpu_settings(own_deployment, graph, rounds=1, seconds=0.001)

    return choose


def test_ways_are_all_different_and_the_plain_one_is_first():
    assert list_ways()[0] == PLAIN
    assert len(set(list_ways())) == len(list_ways())
    assert GpuSettings(runtime="fused") in list_ways()


def test_what_is_too_far_from_the_graph_is_refused_and_all_is_written_down(choose, own_deployment):
    choice = choose(0.05, 0.3, float("nan"), -0.1)
    reasons = {str(trial.settings): trial.rejected for trial in choice.tried if trial.fps is None}
    assert [reason.partition(" by up to")[0] for reason in reasons.values()] == ["not exact enough: logits differ"] * 2
    timed = {trial.settings for trial in choice.tried if trial.fps is not None}
    assert timed == {PLAIN, GpuSettings(runtime="fused")}
    values = json.loads((own_deployment.path / "gpu.json").read_text())
    assert values["machine"] == CARD
    assert values["graphs"]["lfm.fp16.onnx"]["chosen"] == choice.chosen.as_dict()


def test_without_onnx_runtime_on_the_card_the_kernels_are_the_way(choose):
    assert choose(None, None, None, 0.05).chosen == GpuSettings(runtime="fused")


def test_where_no_way_runs_the_first_says_why(choose):
    with pytest.raises(UnavailableError, match="ONNX Runtime, 32 pictures at a time: not run"):
        choose(None, None, None, None)


def test_where_no_way_is_exact_nothing_is_chosen(choose, own_deployment):
    with pytest.raises(GateError, match="no way to run it is exact enough"):
        choose(1, 1, 1, 1)
    assert not (own_deployment.path / "gpu.json").exists()
