import json
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from engines.contest import find_fault
from engines.cpu_choice import TOLERANCES, choose_cpu_settings, list_candidates, list_ways
from engines.cpu_settings import default_settings, find_settings
from engines.way_choice import choose_way
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.cli import run
from lfm_deploy.deployment.lineup import find_candidates
from lfm_deploy.machine import has_bfloat16
from lfm_deploy.quantisation import Recipe


def test_the_first_candidate_is_the_default_and_none_comes_twice():
    for cores in (1, 2, 4, 16):
        found = list_candidates(cores)
        assert found[0] == default_settings(cores)
        assert len(set(found)) == len(found)
        assert all(settings.streams * settings.threads == cores for settings in found)
        assert {settings.runtime for settings in found} == {"onnxruntime", "openvino"}
    assert {settings.runtime for settings in list_candidates(4, evidence=True)} == {"onnxruntime"}


def test_bf16_runs_in_openvino_alone_and_nothing_else_does_so_in_bfloat16(own_deployment):
    info = read_graph_info(own_deployment.graph(Precision.FP32))
    for precision in (Precision.FP32, Precision.FP16):
        ways = list_ways(replace(info, precision=precision), 4, bfloat16=True, amx=False)
        assert {way.arithmetic for way in ways} == {"as written"}
    ways = list_ways(replace(info, precision=Precision.BF16), 4, bfloat16=True, amx=False)
    assert ways[0] == default_settings(4, "bf16")
    assert {(way.runtime, way.arithmetic) for way in ways} == {("openvino", "as written")}
    assert len(set(ways)) == len(ways)


def test_what_int8_leaves_in_floating_point_may_be_bfloat16(calibrated):
    info = read_graph_info(calibrated.graph(Precision.INT8, Recipe.CPU))
    assert info.quantisation is not None
    layers = dict.fromkeys(info.quantisation.layers, "int8")
    for first, bfloat16, wanted in (("int8", True, False), ("fp32", True, True), ("fp32", False, False)):
        made = replace(info.quantisation, layers=layers | {"conv1": first})
        ways = list_ways(replace(info, quantisation=made), 4, bfloat16=bfloat16, amx=False)
        assert any(way.arithmetic == "bf16" for way in ways) == wanted


def rates(*rows):
    return {settings: (list(row), 0.0) for settings, row in zip(list_candidates(2), rows, strict=False)}


def test_the_fastest_is_chosen_by_the_rounds_not_by_its_best_one(small_graph):
    # The machine slows down to a third; the second way is faster in every round, the third had one lucky round.
    found = rates([30, 20, 10, 10], [36, 24, 12, 12], [20, 10, 90, 5])
    choice = choose_way(small_graph, found, {})
    assert choice.chosen == list_candidates(2)[1]
    assert choice.why.startswith("1.20 x the speed of ONNX Runtime, 2 threads")
    assert choice.tried[1].rejected is None
    assert choice.tried[2].rejected is not None


@pytest.mark.parametrize("row", [[30.5, 20.3, 10.2, 10.1], [40, 26, 9, 9]])
def test_what_is_not_clearly_faster_leaves_the_default(small_graph, row):
    choice = choose_way(small_graph, rates([30, 20, 10, 10], row), {})
    assert choice.chosen == default_settings(2)
    assert choice.why == "no other way is clearly faster"


@pytest.mark.parametrize(
    ("change", "precision", "fault"),
    [
        (0.0005, Precision.FP32, None),
        (0.002, Precision.FP32, "differ by up to 0.002, 0 decisions"),
        (0.5, Precision.INT8, None),
        (-2.5, Precision.INT8, "1 decisions of 3 flip"),
        (float("nan"), Precision.INT8, "differ by up to nan"),
    ],
)
def test_a_way_must_be_exact_enough(change, precision, fault):
    reference = np.array([-3.0, 2.0, 5.0])
    found = find_fault(reference + np.array([0, change, 0]), reference, TOLERANCES[precision], 0.0)
    assert found is None if fault is None else fault in found


def test_the_choice_is_written_down_with_all_that_was_tried(own_deployment):
    graph = own_deployment.graph(Precision.FP32)
    choice = choose_cpu_settings(own_deployment, graph, rounds=2, seconds=0.001)
    assert find_settings(graph) == choice.chosen
    values = json.loads((own_deployment.path / "cpu.json").read_text())
    entry = values["graphs"]["lfm.onnx"]
    assert len(entry["tried"]) == len(choice.tried) >= 2
    assert entry["why"] == choice.why
    timed = [row for row in entry["tried"] if row["fps"] is not None]
    assert timed
    assert all(row["fps"] > 0 and row["max_error"] <= 1e-3 for row in timed)
    choose_cpu_settings(own_deployment, own_deployment.graph(Precision.FP16), rounds=1, seconds=0.001)
    assert set(json.loads((own_deployment.path / "cpu.json").read_text())["graphs"]) == {"lfm.onnx", "lfm.fp16.onnx"}


def test_build_for_the_cpu_says_what_it_chose_and_why(own_deployment, capsys, quick_choice):
    assert run(["build", "--fp32", "--target", "cpu", "--workdir", str(own_deployment.path)]) == 0
    shown = capsys.readouterr().out
    assert "chosen: " in shown
    assert str(default_settings()) in shown
    assert find_settings(own_deployment.graph(Precision.FP32)) is not None
    assert run(["inspect", str(own_deployment.graph(Precision.FP32))]) == 0
    assert "the fastest that was measured here" in capsys.readouterr().out


def test_bf16_is_refused_where_there_are_no_units_for_it(own_deployment, capsys, monkeypatch):
    monkeypatch.setattr("lfm_deploy.machine.find_instruction_sets", lambda _=None: ["avx2", "avx512f"])
    assert run(["build", "--bf16", "--workdir", str(own_deployment.path)]) == 3
    assert "neither AMX nor AVX512-BF16" in capsys.readouterr().err
    assert not own_deployment.graph(Precision.BF16).exists()


def test_bf16_is_for_cpus(own_deployment, capsys):
    assert run(["build", "--bf16", "--target", "cuda", "--workdir", str(own_deployment.path)]) == 2
    assert "--bf16 is for --target cpu" in capsys.readouterr().err


@pytest.mark.skipif(not has_bfloat16() or find_spec("openvino") is None, reason="no units for bfloat16, or no OpenVINO")
def test_build_bf16_makes_a_proved_graph_that_runs_here(own_deployment, capsys, quick_choice):
    workdir = str(own_deployment.path)
    assert run(["build", "--bf16", "--workdir", workdir]) == 0
    shown = capsys.readouterr()
    assert "made from lfm.pth and proved" in shown.err
    assert "chosen: OpenVINO" in shown.out or "chosen: kernels for AMX" in shown.out
    graph = own_deployment.graph(Precision.BF16)
    assert read_graph_info(graph).precision is Precision.BF16
    names = [candidate.name for candidate in find_candidates(own_deployment, "cpu")]
    assert {"openvino bf16", "amx bf16"} & set(names)
    (own_deployment.path / "cpu.json").unlink()
    assert run(["inspect", str(graph)]) == 0
    assert "OpenVINO" in capsys.readouterr().out
    assert run(["build", "--bf16", "--workdir", workdir]) == 0
    assert "made from" not in capsys.readouterr().err  # it is there already
