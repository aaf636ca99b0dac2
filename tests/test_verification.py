import json
import shutil
from contextlib import closing

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from engines.loading import load_engine
from export.graph import ExportConfig
from lfm_deploy.artifacts import METADATA_KEY, Precision, sidecar_path
from lfm_deploy.comparison import Scores, compare_suite, measure_suite
from lfm_deploy.deployment import export_into
from lfm_deploy.errors import ArtifactError, ContractError, ImageError, SuiteError
from lfm_deploy.gates import judge_suite
from lfm_deploy.images import read_image
from lfm_deploy.photographs import sample_tiles
from lfm_deploy.quantisation import Budget
from lfm_deploy.suites import load_suites
from lfm_deploy.verification import find_candidates, verify
from lfm_deploy.workdir import Workdir

# 24 pictures can show no less.
LIMITS = Budget(acc=20, ap=20, flips=20)


def run(workdir, folder, **options):
    return verify(workdir, load_suites(folder), speed_seconds=0, **options)


def sabotage(path, edit):
    """Change an ONNX file in place; its metadata stays as it was."""
    model = onnx.load(path)
    edit(model)
    onnx.save(model, path)


def largest_error(engine):
    return engine.suites[0].against.logit_error.max


def weights_of(model, part):
    return next(tensor for tensor in model.graph.initializer if part in tensor.name and len(tensor.dims) == 4)


def test_engines_that_decide_alike_pass(deployment, pictures, no_gpu):
    found = run(deployment, pictures, limits=LIMITS)
    assert found.passed
    names = [engine.name for engine in found.engines]
    assert names == [
        "pytorch fp32",
        "onnxruntime fp32",
        "onnxruntime fp16",
        "tensorrt-rtx fp16 sm86",
        "tensorrt-rtx fp32 sm86",
    ]
    reference, fp32, fp16, *engines = found.engines
    assert reference.gates == ()
    assert fp32.suites[0].pictures == fp16.suites[0].pictures == 24
    assert 0 < largest_error(fp32) < largest_error(fp16)
    # Random weights, and a bias that puts half of such tiles on either side: both decisions do occur.
    logits = np.concatenate([scores.logits for _, scores in found.scores["pytorch fp32", "suite"]])
    assert 0 < (logits > 0).sum() < len(logits)
    for engine in engines:
        assert "no CUDA device" in engine.not_run
        assert engine.suites == engine.gates == ()


def test_few_pictures_decide_nothing_about_half_precision(deployment, pictures):
    found = run(deployment, pictures)
    assert not found.passed
    assert found.outcome == "undecided"
    assert [engine.undecided for engine in found.compared] == [False, True]
    assert not any(engine.failed for engine in found.compared)
    assert {gate.limit for engine in found.engines for gate in engine.gates if "Δ" in gate.name} >= {0.1}


def test_the_reference_is_compared_with_nothing_and_others_with_it(deployment, pictures):
    reference, *engines = run(deployment, pictures, limits=LIMITS).engines
    assert reference.suites[0].against is None
    for engine in engines[:2]:
        assert engine.suites[0].resampling is reference.suites[0].resampling  # so that rounds are paired
        assert {gate.limit for gate in engine.gates if "Δ" in gate.name} <= {2e-4, 2e-2, 20}


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_swapped_channels_of_the_graph_are_caught(own_deployment, pictures, precision):
    def swap(model):
        tensor = weights_of(model, "conv1")
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:, ::-1].copy(), tensor.name))

    check_caught(own_deployment, pictures, precision, swap)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_a_threshold_folded_into_the_bias_is_caught(own_deployment, pictures, precision):
    def move(model):
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "fc.bias")
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.5), tensor.name))

    gates = check_caught(own_deployment, pictures, precision, move)
    assert "largest |Δlogit| over the spread of PyTorch's logits" in {gate.name for gate in gates}


def check_caught(workdir, pictures, precision, edit):
    """An edited graph breaks a gate that it held before, however wide the limits; others hold theirs."""
    sabotage(workdir.graph(precision), edit)
    for engine in workdir.engines():
        engine.unlink()
    found = run(workdir, pictures, limits=LIMITS)
    assert found.outcome == "failed"
    (broken,) = [engine for engine in found.engines if engine.failed]
    assert broken.precision == precision
    return [gate for gate in broken.gates if gate.outcome == "fails"]


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
@pytest.mark.parametrize("resampling", [Image.Resampling.BICUBIC, Image.Resampling.NEAREST])
def test_pictures_that_were_read_with_another_filter_are_caught(deployment, tmp_path, precision, resampling):
    paths = []
    for index, tile in enumerate(sample_tiles(300, 280, 12)):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(tile).save(paths[-1])
    labels = np.arange(12) % 2
    mistaken = np.stack([np.asarray(Image.open(path).resize((256, 256), resampling)) for path in paths])

    def score(precision, images):
        with closing(load_engine(deployment.graph(precision))) as engine:
            return [("set", Scores(paths=tuple(paths), labels=labels, logits=engine.logits(images)))]

    right = np.stack([read_image(path) for path in paths])
    reference = measure_suite("suite", score(Precision.FP32, right), 0.0, rounds=50)
    for images, caught in ((right, False), (mistaken, True)):
        result = compare_suite("suite", score(precision, images), reference, 0.0)
        gates = judge_suite(precision, result, reference.spread, limits=Budget(acc=60, ap=60, flips=60))
        assert any(gate.outcome == "fails" for gate in gates) is caught


def test_one_wrong_weight_is_caught(own_deployment, pictures):
    def scale(model):
        tensor = weights_of(model, "projection")
        values = numpy_helper.to_array(tensor).copy()
        values[:2] *= 1.5
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    sabotage(own_deployment.graph(Precision.FP32), scale)
    for engine in own_deployment.engines():
        engine.unlink()
    found = run(own_deployment, pictures)
    assert not found.passed
    assert [engine.failed for engine in found.engines] == [False, True, False]


def test_a_graph_that_changed_after_its_engine_was_built_makes_the_engine_stale(own_deployment, pictures):
    sabotage(own_deployment.graph(Precision.FP16), lambda model: setattr(model, "doc_string", "edited"))
    with pytest.raises(ArtifactError, match=r"fp16\.sm86\.engine: stale.*lfm-deploy build --fp16 --gpu sm86"):
        run(own_deployment, pictures)


def test_artifacts_of_another_checkpoint_are_stale(own_deployment, pictures, small_config, tmp_path):
    from lfm_deploy.checkpoint import write_checkpoint
    from lfm_deploy.model import LFM

    write_checkpoint(tmp_path / "other.pth", LFM(small_config))
    export_into(own_deployment, tmp_path / "other.pth", ExportConfig(), print)
    with pytest.raises(ArtifactError, match=r"lfm\.fp16\.onnx: stale.*lfm-deploy build --fp16"):
        run(own_deployment, pictures)


def test_a_damaged_engine_is_refused_although_it_could_not_run(own_deployment, pictures):
    engine = own_deployment.engine(Precision.FP16, "sm86")
    engine.write_bytes(engine.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="damaged"):
        run(own_deployment, pictures)


def test_a_missing_sidecar_is_refused(own_deployment, pictures):
    sidecar_path(own_deployment.engine(Precision.FP16, "sm86")).unlink()
    with pytest.raises(ArtifactError, match="sidecar"):
        run(own_deployment, pictures)


@pytest.mark.parametrize(
    ("field", "value"), [("threshold", 0.5), ("colour", "BGR"), ("resize", "pillow-nearest"), ("size", 224)]
)
def test_a_contract_that_differs_is_refused(own_deployment, pictures, field, value):
    def edit(model):
        (entry,) = model.metadata_props
        values = json.loads(entry.value)
        values["contract"][field] = value
        onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(values)})

    for engine in own_deployment.engines():
        engine.unlink()
    sabotage(own_deployment.graph(Precision.FP32), edit)
    with pytest.raises(ContractError, match=field):
        run(own_deployment, pictures)


def test_native_suites_need_a_graph_of_dynamic_size(deployment, pictures):
    with pytest.raises(ContractError, match="--dynamic-size"):
        verify(deployment, load_suites(pictures, size="native"), speed_seconds=0)


def test_a_dynamic_graph_judges_native_and_mixed_sizes(small_checkpoint, tmp_path):
    for index, (width, height) in enumerate([(64, 64), (64, 64), (128, 96), (63, 64), (200, 128), (48, 64)]):
        home = tmp_path / "data" / ("0_real", "1_fake")[index % 2]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample_tiles(height, width, 1)[0]).save(home / f"{index}.png")
    workdir = Workdir(tmp_path / "deploy")
    export_into(workdir, small_checkpoint, ExportConfig(size="native"), print)
    found = verify(workdir, load_suites(tmp_path / "data", size="native"), speed_seconds=0)
    assert found.passed
    assert found.engines[1].suites[0].pictures == 5
    ((skipped),) = found.skipped
    assert (skipped.path.name, "odd side" in skipped.reason) == ("3.png", True)


@pytest.fixture
def spoilt(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "spoilt")
    (tmp_path / "spoilt" / "first" / "0_real" / "zz.png").write_bytes(b"")
    (tmp_path / "spoilt" / "second" / "1_fake" / "aa.jpg").write_bytes(b"not a jpeg")
    return tmp_path / "spoilt"


def test_pictures_that_cannot_be_read_are_listed(deployment, spoilt, pictures):
    found, clean = run(deployment, spoilt), run(deployment, pictures)
    assert [(path.path.name, path.reason[:12]) for path in found.skipped] == [
        ("zz.png", "the file is "),
        ("aa.jpg", "cannot be re"),
    ]
    for one, other in zip(found.engines[1].suites[0].sets, clean.engines[1].suites[0].sets, strict=True):
        assert (one.real, one.fake, one.metrics) == (other.real, other.fake, other.metrics)


def test_strict_makes_them_an_error(deployment, spoilt):
    with pytest.raises(ImageError, match=r"zz\.png: the file is empty \(2 such pictures; --strict\)"):
        run(deployment, spoilt, strict=True)


def test_a_class_of_which_nothing_can_be_read(deployment, spoilt):
    for path in (spoilt / "first" / "0_real").iterdir():
        path.write_bytes(b"")
    with pytest.raises(SuiteError, match=r"first: of 13 pictures 6 can be read"):
        run(deployment, spoilt)


def test_on_a_gpu_autocast_is_an_engine_of_its_own(deployment):
    on_gpu, on_cpu = find_candidates(deployment, "cuda:1"), find_candidates(deployment, "cpu")
    assert [(one.name, one.asked_precision) for one in on_gpu[:3]] == [
        ("pytorch fp32 cuda:1", "fp32"),
        ("pytorch fp16 cuda:1", "fp16"),
        ("onnxruntime fp32 cuda:1", None),
    ]
    assert not any("pytorch fp16" in one.name for one in on_cpu)
