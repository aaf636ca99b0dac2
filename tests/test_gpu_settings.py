import json
import re
from dataclasses import replace

import pytest

from engines import gpu_settings
from engines.gpu_choice import list_ways
from engines.gpu_settings import CHOICES, GpuSettings, find_settings
from engines.loading import load_engine
from lfm_deploy.cli import run
from lfm_deploy.deployment.lineup import find_candidates
from lfm_deploy.errors import ArtifactError, UnavailableError
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.storage.values import Reader

FUSED = GpuSettings(runtime="fused")
COMPILED = GpuSettings(runtime="pytorch")
CARD = {"gpu": "NVIDIA H100", "sm": "sm90", "driver": 13000, "versions": {"torch": "2.11.0"}}


def write(workdir, card=CARD, **changes):
    graph = workdir.path / "lfm.fp16.onnx"
    entry = {"sha256": sha256_of_file(graph), "chosen": FUSED.as_dict(), "why": "", "tried": []}
    values = {"format": "lfm-deploy gpu 1", "machine": card, "graphs": {graph.name: entry | changes}}
    (workdir.path / "gpu.json").write_text(json.dumps(values))
    return graph


@pytest.fixture
def on_a_card(monkeypatch):
    """The choice is read as on that card; nothing runs there."""
    monkeypatch.setattr(gpu_settings, "describe_card", lambda _: CARD)


def test_settings_in_words_and_back():
    reader = Reader(where="x", remedy="")
    for settings in list_ways():
        assert reader.convert(json.loads(json.dumps(settings.as_dict())), GpuSettings) == settings
    assert str(GpuSettings(runtime="onnxruntime", piece=128, nhwc=True)) == (
        "ONNX Runtime, NHWC, 128 pictures at a time"
    )
    all_of_it = GpuSettings(runtime="onnxruntime", piece=64, nhwc=True, search="heuristic", cuda_graph=True)
    assert str(all_of_it) == "ONNX Runtime, NHWC, heuristic search, CUDA graphs, 64 pictures at a time"
    assert str(COMPILED) == "PyTorch compiled"


def test_a_choice_of_before_searches_all_algorithms_and_captures_nothing(own_deployment, on_a_card):
    old = {"runtime": "onnxruntime", "piece": 128, "nhwc": True}
    found = find_settings(write(own_deployment, chosen=old), "cuda")
    assert found == GpuSettings(runtime="onnxruntime", piece=128, nhwc=True)
    assert found.provider_options == {
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
        "prefer_nhwc": "1",
        "fuse_conv_bias": "1",
    }


def test_where_the_compiled_checkpoint_was_chosen_it_is_an_engine_apart_from_the_checkpoint(own_deployment, on_a_card):
    write(own_deployment, chosen=COMPILED.as_dict())
    found = find_candidates(own_deployment, "cuda", compiled=True)
    names = [candidate.name for candidate in found]
    assert "torch.compile fp16 cuda" in names
    assert len(set(names)) == len(names)


def test_what_was_chosen_on_this_card_is_used_there(own_deployment, on_a_card):
    graph = write(own_deployment)
    assert find_settings(graph, "cuda") == FUSED
    names = [candidate.name for candidate in find_candidates(own_deployment, "cuda")]
    assert "fused fp16 cuda" in names
    assert "onnxruntime fp32 cuda" in names


@pytest.mark.parametrize(("device", "captures"), [("cuda:1", [True]), ("cuda:0,cuda:1", [False, False])])
def test_what_was_chosen_captures_nothing_beside_engines_on_other_gpus(
    own_deployment, on_a_card, monkeypatch, device, captures
):
    """What another thread does meanwhile would end ONNX Runtime's capture."""
    chosen, opened = GpuSettings(runtime="onnxruntime", nhwc=True, cuda_graph=True), []
    graph = write(own_deployment, chosen=chosen.as_dict())
    by_cpu = load_engine(graph)
    monkeypatch.setattr(
        "engines.gpu_choice.open_way", lambda path, device, settings: (opened.append(settings), by_cpu)[1]
    )
    load_engine(graph, device=device)
    assert opened == [replace(chosen, cuda_graph=capture) for capture in captures]


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_it_cannot_run_without_a_card_and_is_never_moved_elsewhere(own_deployment, on_a_card, device):
    with pytest.raises(UnavailableError, match="not run"):
        load_engine(write(own_deployment), device=device)


@pytest.mark.parametrize("what", ["card", "graph"])
def test_a_choice_for_something_else_is_not_used(own_deployment, on_a_card, what):
    if what == "card":
        graph = write(own_deployment, card=CARD | {"gpu": "NVIDIA A100"})
    else:
        graph = write(own_deployment, sha256="0" * 64)
    assert find_settings(graph, "cuda") is None


def test_where_no_card_can_be_asked_nothing_was_chosen(own_deployment):
    assert find_settings(write(own_deployment), "cuda") is None


@pytest.mark.parametrize(
    "chosen",
    [
        {"runtime": "abacus"},
        {"runtime": "onnxruntime", "search": "all"},
        {"runtime": "fused", "cuda_graph": 1},
        {"runtime": "fused", "piece": 2**31},
        {"runtime": "fused", "nhwc": 1},
        {},
        7,
    ],
)
def test_a_damaged_file_is_left_out_with_a_word(own_deployment, on_a_card, caplog, chosen):
    assert find_settings(write(own_deployment, chosen=chosen), "cuda") is None
    assert re.search(r"gpu\.json: damaged.*build --fp16 --target cuda", caplog.text)


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, '{"format": "lfm-deploy gpu 1"}'])
def test_half_a_file_is_damaged(own_deployment, content):
    (own_deployment.path / "gpu.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"gpu\.json: damaged"):
        CHOICES.read(own_deployment.path)


def test_without_a_gpu_build_for_cuda_is_exit_3_and_makes_nothing(own_deployment, capfd):
    before = sorted(path.name for path in own_deployment.path.iterdir())
    assert run(["build", "--fp16", "--target", "cuda", "--workdir", str(own_deployment.path)]) == 3
    assert "no CUDA device" in capfd.readouterr().err
    assert sorted(path.name for path in own_deployment.path.iterdir()) == before
    assert run(["build", "--fp16", "--target", "cuda", "--gpu", "sm86"]) == 2
