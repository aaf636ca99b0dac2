import json
import os

import pytest

from engines.cpu_settings import (
    CHOICES,
    CpuSettings,
    default_settings,
    describe_place,
    find_settings,
)
from engines.loading import load_engine
from engines.way_choice import Choice, Trial
from lfm_deploy.errors import ArtifactError
from lfm_deploy.machine import limit_cores
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.storage.atomic import sha256_of_file

CHOSEN = CpuSettings(runtime="onnxruntime", streams=2, threads=1, piece=1)


def write(workdir, **changes):
    graph = workdir.path / "lfm.onnx"
    entry = {"sha256": sha256_of_file(graph), "chosen": CHOSEN.as_dict(), "why": "", "tried": []}
    values = {"format": "lfm-deploy cpu 1", "machine": describe_place(), "graphs": {"lfm.onnx": entry | changes}}
    (workdir.path / "cpu.json").write_text(json.dumps(values))
    return graph, values


def test_what_was_chosen_is_used_where_it_was_chosen(own_deployment):
    graph, _ = write(own_deployment)
    assert find_settings(graph) == CHOSEN
    engine = load_engine(graph)
    assert engine.settings == CHOSEN
    assert load_engine(graph, threads=2).settings == CHOSEN
    tiles = sample_tiles(256, 256, 5)
    (own_deployment.path / "cpu.json").unlink()
    # ONNX Runtime gives the same sums for any number of threads and pictures.
    assert engine.logits(tiles).tolist() == load_engine(graph).logits(tiles).tolist()


def test_asking_for_other_threads_is_not_overruled(own_deployment):
    graph, _ = write(own_deployment)
    assert load_engine(graph, threads=1).settings == default_settings(1)


@pytest.mark.parametrize(
    ("chosen", "cores", "expected"),
    [((8, 1), 1, (1, 1)), ((8, 1), 3, (3, 1)), ((1, 8), 4, (1, 4)), ((2, 4), 6, (1, 4)), ((2, 4), 8, (2, 4))],
)
def test_a_process_with_some_of_the_cores_keeps_the_runtime(own_deployment, monkeypatch, chosen, cores, expected):
    """Of several processes that share the machine, all give the logits that one would."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    ways = [
        CpuSettings(runtime="openvino", streams=streams, threads=threads, piece=1)
        for streams, threads in (chosen, expected)
    ]
    graph, _ = write(own_deployment, chosen=ways[0].as_dict())
    with limit_cores(cores):
        assert find_settings(graph) == ways[1]
        assert default_settings().threads == cores
    assert find_settings(graph) == ways[0]


@pytest.mark.parametrize("what", ["graph", "machine", "versions", "name"])
def test_a_choice_for_something_else_is_not_used(own_deployment, what):
    graph, values = write(own_deployment)
    if what == "graph":
        values["graphs"]["lfm.onnx"]["sha256"] = "0" * 64
    elif what == "machine":
        values["machine"]["processor"] = "another"
    elif what == "versions":
        values["machine"]["versions"]["onnxruntime"] = "0.1"
    else:
        values["graphs"] = {"lfm.fp16.onnx": values["graphs"]["lfm.onnx"]}
    (own_deployment.path / "cpu.json").write_text(json.dumps(values))
    assert find_settings(graph) is None
    assert load_engine(graph).settings == default_settings()


@pytest.mark.parametrize(
    "change",
    [
        {"chosen": {"runtime": "onnxruntime"}},
        {"chosen": CHOSEN.as_dict() | {"threads": 0}},
        {"chosen": CHOSEN.as_dict() | {"threads": 2**31}},
        {"chosen": CHOSEN.as_dict() | {"streams": 2**31}},
        {"chosen": CHOSEN.as_dict() | {"threads": 4096, "streams": 4096}},
        {"chosen": CHOSEN.as_dict() | {"threads": 1.0}},
        {"chosen": CHOSEN.as_dict() | {"runtime": "abacus"}},
        {"chosen": CHOSEN.as_dict() | {"arithmetic": "fp8"}},
        {"sha256": 5},
        {"surprise": 1},
    ],
)
def test_a_damaged_file_is_left_out_with_a_word(own_deployment, caplog, change):
    graph, _ = write(own_deployment, **change)
    with pytest.raises(ArtifactError, match=r"cpu\.json: damaged"):
        CHOICES.read(own_deployment.path)
    assert find_settings(graph) is None
    assert load_engine(graph).settings == default_settings()
    assert [record.message for record in caplog.records if "cpu.json: damaged" in record.message][1:] == [], "once"
    assert "run 'lfm-deploy build --fp32 --target cpu' to measure again" in caplog.text


def test_an_entry_without_its_graph_is_damaged(own_deployment, caplog):
    graph, values = write(own_deployment)
    del values["graphs"]["lfm.onnx"]["sha256"]
    (own_deployment.path / "cpu.json").write_text(json.dumps(values))
    assert find_settings(graph) is None
    assert "has no sha256" in caplog.text


def test_more_threads_than_could_be_measured_here_are_not_started(own_deployment):
    graph, _ = write(own_deployment, chosen=CHOSEN.as_dict() | {"threads": 4096, "streams": 1})
    assert find_settings(graph) is None


def test_a_damaged_file_is_made_anew(own_deployment):
    path = own_deployment.path / "cpu.json"
    path.write_text("[" * 100_000)
    trial = Trial(settings=CHOSEN, fps=1.0, ratio=1.0, ratio_quartile=1.0, max_error=0.0, rejected=None)
    for name in ("lfm.onnx", "lfm.fp16.onnx"):
        choice = Choice(graph=own_deployment.path / name, chosen=CHOSEN, why="fast", tried=(trial,))
        CHOICES.write(own_deployment.path, choice, describe_place())
    assert find_settings(own_deployment.path / "lfm.onnx") == CHOSEN
    read = CHOICES.read(own_deployment.path)
    assert set(read.graphs) == {"lfm.onnx", "lfm.fp16.onnx"}
    assert read.graphs["lfm.onnx"].tried[0]["settings"] == CHOSEN.as_dict()


def test_half_a_file_is_damaged_and_no_file_is_none(own_deployment):
    assert CHOICES.read(own_deployment.path) is None
    write(own_deployment)
    path = own_deployment.path / "cpu.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(ArtifactError, match="damaged"):
        CHOICES.read(own_deployment.path)


def test_settings_say_what_they_are():
    assert str(CHOSEN) == "ONNX Runtime, 2 streams of 1 thread, 1 picture at a time"
    text = str(CpuSettings(runtime="openvino", streams=1, threads=4, piece=8, arithmetic="bf16"))
    assert text == "OpenVINO, 4 threads, 8 pictures at a time, bf16"
