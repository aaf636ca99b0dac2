import shutil
from dataclasses import replace

import pytest

from lfm_deploy.artifacts import Precision
from lfm_deploy.errors import ArtifactError, ConfigError, InputError, UnavailableError
from lfm_deploy.pictures.decoders import choose_decoder
from lfm_deploy.prediction.judges import describe_run, open_judge
from lfm_deploy.quantisation import Recipe
from lfm_deploy.workdir import Workdir


def test_which_engine_is_taken(own_deployment, small_checkpoint, no_gpu):
    said = []
    fp32 = own_deployment.graph(Precision.FP32)
    judge = open_judge(own_deployment, on_message=said.append)
    assert (judge.path, judge.size, judge.threshold, judge.batch) == (fp32, 256, 0.0, 8)
    assert said == [f"taking {fp32} (onnxruntime fp32 on cpu); pictures by {choose_decoder().name}"]
    assert open_judge(own_deployment, precision="fp16").path.name == "lfm.fp16.onnx"
    # Each stands for another graph: what they compute is not asked here.
    for recipe in Recipe:
        shutil.copy(fp32, own_deployment.graph(Precision.INT8, recipe))
    assert open_judge(own_deployment, precision=Precision.INT8).path.name == "lfm.int8.cpu.onnx"
    assert open_judge(own_deployment, precision="int8", device="cpu").path.name == "lfm.int8.cpu.onnx"
    checkpoint = open_judge(own_deployment, engine=small_checkpoint, threshold=1.5, batch=3)
    assert (checkpoint.engine.runtime, checkpoint.size, checkpoint.threshold, checkpoint.batch) == (
        "pytorch",
        256,
        1.5,
        3,
    )


def test_what_cannot_be_taken_says_what_to_do(deployment, tmp_path, no_gpu):
    with pytest.raises(ArtifactError, match=r"lfm.int8.cpu.onnx: no such graph; .*build --int8 --target cpu"):
        open_judge(deployment, precision="int8")
    with pytest.raises(ArtifactError, match=r"lfm-deploy export CHECKPOINT.pth --workdir"):
        open_judge(Workdir(tmp_path))
    with pytest.raises(InputError, match="not an engine of a known kind"):
        open_judge(deployment, engine=tmp_path / "x.bin")
    with pytest.raises(UnavailableError):
        open_judge(deployment, device="cuda")
    with pytest.raises(UnavailableError):
        open_judge(deployment, engine=deployment.engine(Precision.FP16, "sm86"))
    for options in ({"precision": "fp8"}, {"threshold": float("nan")}, {"decoder": "libjpeg"}):
        with pytest.raises(ConfigError):
            open_judge(deployment, **options)


def test_a_graph_of_another_checkpoint_is_stale_and_one_without_may_run(own_deployment):
    own_deployment.checkpoint.write_bytes(b"another")
    with pytest.raises(ArtifactError, match=r"lfm.onnx: stale.*run 'lfm-deploy export CHECKPOINT.pth'"):
        open_judge(own_deployment)
    own_deployment.checkpoint.unlink()  # a folder that was copied to production
    assert open_judge(own_deployment).path.name == "lfm.onnx"


def test_a_run_is_described_by_all_that_its_rows_depend_on(deployment):
    judge = open_judge(deployment)
    before = describe_run(judge)
    assert before == describe_run(judge)
    assert before["libraries"].keys() >= {"onnxruntime", "numpy", "pillow"}
    assert before["processor"]
    others = (
        replace(judge, threshold=1.0),
        replace(judge, batch=9),
        open_judge(deployment, precision="fp16"),
        open_judge(deployment, decoder="pillow"),
    )
    assert all(describe_run(other) != before for other in others)


def test_a_batch_on_a_cpu_has_a_piece_for_each_stream_that_was_chosen(own_deployment):
    from engines.cpu_settings import CHOICES, CpuSettings, describe_place
    from engines.way_choice import Choice

    graph = own_deployment.graph(Precision.FP32)
    assert open_judge(own_deployment, engine=graph, device="cpu").batch == 8
    way = CpuSettings(runtime="onnxruntime", streams=4, threads=1, piece=3)
    CHOICES.write(own_deployment.path, Choice(graph=graph, chosen=way, why="a test", tried=()), describe_place())
    streams = open_judge(own_deployment, engine=graph, device="cpu").engine.settings.streams
    # Fewer cores than it was chosen for run as many streams as they can.
    assert open_judge(own_deployment, engine=graph, device="cpu").batch == max(8, 3 * streams)
    assert open_judge(own_deployment, engine=graph, device="cpu", batch=2).batch == 2
