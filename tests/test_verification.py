import json
import shutil
from collections import Counter
from contextlib import closing

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from engines.loading import load_engine
from export.graph import ExportConfig
from lfm_deploy.artifacts import METADATA_KEY, Precision
from lfm_deploy.deployment import lineup
from lfm_deploy.deployment.deployment import export_into
from lfm_deploy.engine_info import sidecar_path
from lfm_deploy.errors import ArtifactError, ContractError, ImageError, SuiteError, UnavailableError
from lfm_deploy.pictures import fingerprints
from lfm_deploy.pictures.images import read_image
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.quantisation import Budget
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.storage.graph_file import seal_graph
from lfm_deploy.suites import load_suites
from lfm_deploy.verification.comparison import compare_suite, measure_suite
from lfm_deploy.verification.gates import judge_suite
from lfm_deploy.verification.verification import verify
from lfm_deploy.verification.verify_options import VerifyOptions
from lfm_deploy.workdir import Workdir

# 24 pictures can show no less.
LIMITS = Budget(acc=20, ap=20, flips=20)


def verify_with(workdir, suites, *, speed_seconds=0, **options):
    """A verification; of the keywords, those with "on_" are its callbacks, and the others its options."""
    callbacks = {name: options.pop(name) for name in list(options) if name.startswith("on_")}
    return verify(workdir, suites, VerifyOptions(speed_seconds=speed_seconds, **options), **callbacks)


def run(workdir, folder, **options):
    """Everything computed, nothing kept: the workdirs of a session are not to be written."""
    return verify_with(workdir, load_suites(folder), use_cache=False, **options)


def run_cached(workdir, folder, **options):
    """A run that keeps what it computes: the result, how many logits of each engine it knew, logits by engine."""
    found = verify_with(workdir, load_suites(folder), **options)
    logits = {
        engine: np.concatenate([scores.logits for _, scores in parts]) for (engine, _), parts in found.scores.items()
    }
    return found, {engine.name: engine.cached for engine in found.engines}, logits


def sabotage(path, edit):
    """Change an ONNX file in place; its metadata stays as it was."""
    model = onnx.load(path)
    edit(model)
    path.write_bytes(seal_graph(model))


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
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "head.bias")
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
    from lfm_deploy.network.checkpoint import write_checkpoint
    from lfm_deploy.network.model import LFM

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
        (entry,) = (entry for entry in model.metadata_props if entry.key == METADATA_KEY)
        values = json.loads(entry.value)
        values["contract"][field] = value
        entry.value = json.dumps(values)

    for engine in own_deployment.engines():
        engine.unlink()
    sabotage(own_deployment.graph(Precision.FP32), edit)
    # Colours and ways of resizing that nobody has made graphs for are refused as the file is read.
    with pytest.raises((ContractError, ArtifactError), match=field):
        run(own_deployment, pictures)


def test_native_suites_need_a_graph_of_dynamic_size(deployment, pictures):
    with pytest.raises(ContractError, match="--dynamic-size"):
        verify_with(deployment, load_suites(pictures, size="native"), use_cache=False)


def test_a_dynamic_graph_judges_native_and_mixed_sizes(small_checkpoint, tmp_path):
    for index, (width, height) in enumerate([(64, 64), (64, 64), (128, 96), (63, 64), (200, 128), (48, 64)]):
        home = tmp_path / "data" / ("0_real", "1_fake")[index % 2]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample_tiles(height, width, 1)[0]).save(home / f"{index}.png")
    workdir = Workdir(tmp_path / "deploy")
    export_into(workdir, small_checkpoint, ExportConfig(size="native"), print)
    found = verify_with(workdir, load_suites(tmp_path / "data", size="native"))
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


@pytest.fixture
def own_small(small_workdir, tmp_path):
    """A copy of the workdir with checkpoint and FP32 graph alone."""
    shutil.copytree(small_workdir.path, tmp_path / "small")
    return Workdir(tmp_path / "small")


@pytest.fixture
def own_pictures(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "pictures")
    return tmp_path / "pictures"


PYTORCH, ORT = "pytorch fp32", "onnxruntime fp32"


def test_only_what_is_new_is_scored(own_small, own_pictures):
    warnings = []
    _, cached, logits = run_cached(own_small, own_pictures, on_warning=warnings.append)
    assert cached == {PYTORCH: 0, ORT: 0}
    again, cached, known = run_cached(own_small, own_pictures, on_warning=warnings.append)
    assert cached == {PYTORCH: 24, ORT: 24}
    assert all(np.array_equal(known[name], logits[name]) for name in logits)
    assert again.passed
    # A picture with another content under the same name.
    path = own_pictures / "first" / "0_real" / "00.png"
    content = path.read_bytes()
    shutil.copy(own_pictures / "second" / "0_real" / "01.png", path)
    _, cached, changed = run_cached(own_small, own_pictures, on_warning=warnings.append)
    assert cached == {PYTORCH: 24, ORT: 24}  # its content is known as well, from another test set
    assert changed[ORT][0] == logits[ORT][12]
    path.write_bytes(content + b"\0")
    assert run_cached(own_small, own_pictures)[1] == {PYTORCH: 23, ORT: 23}
    # Another file of the engine.
    sabotage(own_small.graph(Precision.FP32), lambda model: setattr(model, "doc_string", "edited"))
    assert run_cached(own_small, own_pictures)[1] == {PYTORCH: 24, ORT: 0}
    assert warnings == []


def test_another_choice_of_threads_is_another_engine(own_small, pictures):
    from engines.cpu_settings import CHOICES, CpuSettings, describe_place
    from lfm_deploy.storage.atomic import sha256_of_file

    graph = own_small.graph(Precision.FP32)
    run_cached(own_small, pictures)
    chosen = CpuSettings(runtime="onnxruntime", streams=1, threads=1, piece=4)
    entry = {"sha256": sha256_of_file(graph), "chosen": chosen.as_dict()}
    values = {"format": CHOICES.format, "machine": describe_place(), "graphs": {graph.name: entry}}
    (own_small.path / CHOICES.name).write_text(json.dumps(values))
    assert run_cached(own_small, pictures)[1] == {PYTORCH: 24, ORT: 0}
    assert run_cached(own_small, pictures)[1] == {PYTORCH: 24, ORT: 24}


def test_without_the_cache_nothing_is_read_or_written(own_small, pictures):
    run(own_small, pictures)
    assert not own_small.score_cache.exists()
    run_cached(own_small, pictures)
    before = own_small.score_cache.read_bytes()
    assert [engine.cached for engine in run(own_small, pictures).engines] == [0, 0]
    assert own_small.score_cache.read_bytes() == before


def test_a_cache_cut_in_half_is_made_anew_with_the_same_results(own_small, pictures):
    _, _, logits = run_cached(own_small, pictures)
    content = own_small.score_cache.read_bytes()
    own_small.score_cache.write_bytes(content[: len(content) // 2])
    warnings = []
    _, cached, again = run_cached(own_small, pictures, on_warning=warnings.append)
    assert cached == {PYTORCH: 0, ORT: 0}
    assert all(np.array_equal(again[name], logits[name]) for name in logits)
    assert len(warnings) == 1
    assert "damaged" in warnings[0]
    assert run_cached(own_small, pictures)[1] == {PYTORCH: 24, ORT: 24}


def test_unreadable_pictures_are_known_as_well(own_small, spoilt):
    first, _, _ = run_cached(own_small, spoilt)
    second, cached, _ = run_cached(own_small, spoilt)
    assert first.skipped == second.skipped
    assert cached == {PYTORCH: 24, ORT: 24}


def test_inputs_are_checked_before_scoring_begins(own_small, own_deployment, pictures):
    begun = []
    sidecar_path(own_deployment.engine(Precision.FP16, "sm86")).unlink()
    with pytest.raises(ArtifactError):
        run(own_deployment, pictures, on_start=lambda: begun.append("deployment"))
    run(own_small, pictures, on_start=lambda: begun.append("small"))
    assert begun == ["small"]


def test_an_engine_for_the_envelope_that_cannot_run_is_told_before_scoring_begins(deployment, pictures, no_gpu):
    begun = []
    asked = {"envelope": True, "envelope_engine": "tensorrt-rtx fp16 sm86", "on_start": lambda: begun.append(1)}
    with pytest.raises(UnavailableError, match="no CUDA device"):
        run(deployment, pictures, **asked)
    assert begun == []


def test_a_file_under_both_labels_is_told(own_small, own_pictures):
    real, fake = own_pictures / "first" / "0_real" / "00.png", own_pictures / "second" / "1_fake" / "copy.png"
    shutil.copy(real, fake)
    found = run(own_small, own_pictures)
    assert [(pair.suite, pair.real, pair.fake) for pair in found.in_both_classes] == [("pictures", real, fake)]


def test_categories_are_told_apart(own_small, pictures, tmp_path):
    for name in ("first", "second"):
        shutil.copytree(pictures / name, tmp_path / "suite" / "set" / name)
    found = run(own_small, tmp_path / "suite")
    ((_, scores),) = found.scores[ORT, "suite"]
    assert scores.categories == tuple(path.parts[-3] for path in scores.paths)
    assert set(scores.categories) == {"first", "second"}


def test_an_envelope_hashes_neither_the_workdir_nor_a_picture_again(own_small, pictures, monkeypatch):
    looked = Counter()

    def counting(function):
        def count(path):
            looked[path] += 1
            return function(path)

        return count

    monkeypatch.setattr(fingerprints, "_fingerprint", counting(fingerprints._fingerprint))
    monkeypatch.setattr(lineup, "read_graph_info", counting(lineup.read_graph_info))
    run(own_small, pictures, envelope=True)
    paths = [*pictures.glob("*/*/*.png"), own_small.graph(Precision.FP32)]
    assert looked == dict.fromkeys(paths, 1)
