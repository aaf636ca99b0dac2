"""The published checkpoint, deployed as by a user: what it must hold on real pictures, and what the pages say of it."""

import csv
import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from documentation import find_row, read_flowing
from onnx import numpy_helper

from calib.calibration import calibrate_into
from calib.int8_graph import quantise_into
from calib.layer_times import RtxTarget
from calib.pictures import PictureStore
from calib.ranges import read_ranges
from calib.scoring import score_graph
from engines.builder import BuildConfig
from engines.library import load_library
from engines.loading import load_engine
from export.exporter import ProvedGraph
from export.graph import ExportConfig, make_graph
from export.precision import Int8Config, make_int8_graph, prepare_int8
from lfm_deploy.artifacts import Precision
from lfm_deploy.deployment.deployment import BuildTarget, build_into, export_into, make_typed_graph
from lfm_deploy.deployment.kernel_table import describe_kernels
from lfm_deploy.deployment.lineup import find_candidates
from lfm_deploy.metrics.decisions import average_precision
from lfm_deploy.network.origin import read_origin
from lfm_deploy.pictures.images import read_image
from lfm_deploy.quantisation import Budget, Recipe
from lfm_deploy.scoring.score_cache import ScoreCache
from lfm_deploy.scoring.scorers import published_reading
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.scoring.suite_scores import make_scorer, make_tasks
from lfm_deploy.storage.graph_file import seal_graph
from lfm_deploy.suites import load_suites
from lfm_deploy.suites.confounders import find_confounders, read_all_facts
from lfm_deploy.thresholds.choice import Claim, choose
from lfm_deploy.verification.aligned import measure_aligned
from lfm_deploy.verification.comparison import compare_suite, measure_suite
from lfm_deploy.verification.conditions import AS_IS, encode_jpeg
from lfm_deploy.verification.envelope import choose_envelope_engine, measure_envelope
from lfm_deploy.verification.gates import judge_suite
from lfm_deploy.workdir import Workdir


@pytest.fixture(scope="module")
def official_export(official_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workdir, ProvedGraph]:
    """A workdir with the published checkpoint exported, and its proof."""
    workdir = Workdir(tmp_path_factory.mktemp("official") / "deploy")
    return workdir, export_into(workdir, official_checkpoint, ExportConfig(), lambda _: None)


@pytest.fixture(scope="module")
def official_deployment(official_export: tuple[Workdir, ProvedGraph], shared: Path) -> Workdir:
    """The published checkpoint as a user deploys it: FP32, FP16, and INT8 of both recipes. Do not write."""
    workdir, _ = official_export
    make_typed_graph(workdir, Precision.FP16, lambda _: None)
    calibrate_into(workdir, shared / "calibration" / "mixed")
    for recipe in Recipe:
        quantise_into(workdir, recipe, Budget())
    return workdir


@pytest.fixture(scope="module")
def verified(official_deployment, shared, tmp_path_factory):
    """The first real input, as a user runs it: photographs and generator output. Workdir and report."""
    folder = tmp_path_factory.mktemp("wild")
    shutil.copytree(official_deployment.path, folder / "deploy")
    command = [sys.executable, "-m", "lfm_deploy", "verify", "--suite", shared / "wild", "--no-speed", "--json"]
    command.append("--allow-undecided")  # some 960 pictures cannot show that ACC moves by less than 0.1 points
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return Workdir(folder / "deploy"), json.loads(finished.stdout)


@pytest.fixture(scope="module")
def wild(verified):
    """Of that verification, the report and rows of scores."""
    workdir, report = verified
    with workdir.scores.open() as file:
        return report, list(csv.DictReader(file))


def test_its_graph_is_proved(official_export):
    _, graph = official_export
    assert max(row.max_error for row in graph.proof) <= 1e-3  # the acceptance; 6e-5 was seen


def test_every_published_logit_on_real_pictures(wild, shared):
    report, rows = wild
    assert report["skipped"] == []
    with (shared / "wild" / "authors_logits.csv").open() as file:
        expected = {row["path"]: float(row["logit"]) for row in csv.DictReader(file)}
    for engine in ("pytorch fp32", "onnxruntime fp32"):
        logits = {
            Path(row["path"]).relative_to(shared / "wild").as_posix(): float(row["logit"])
            for row in rows
            if row["engine"] == engine
        }
        assert logits.keys() == expected.keys()
        # The acceptance.
        assert max(abs(logits[path] - expected[path]) for path in expected) <= 1e-3


@pytest.mark.parametrize(
    ("name", "flips", "acc", "ap"),
    # What each must hold over all pictures: flips in per cent, the change of mean ACC and AP in points.
    [
        ("onnxruntime fp16", 0, 0, 0.02),
        ("onnxruntime int8 tensorrt", 0.7, 0.2, 0.15),
        ("onnxruntime int8 cpu", 0.7, 0.2, 0.15),
    ],
)
def test_no_precision_loses_decisions_on_real_pictures(wild, name, flips, acc, ap):
    report, _ = wild
    reference, mine = report["engines"][0]["suites"][0], engine_of(report, name)["suites"][0]
    assert mine["against"]["flip_rate"]["value"] <= flips
    assert abs(mine["mean"]["acc"]["value"] - reference["mean"]["acc"]["value"]) <= acc + 1e-9  # float64 sums
    assert abs(mine["mean"]["ap"]["value"] - reference["mean"]["ap"]["value"]) <= ap
    if "int8" in name:
        assert engine_of(report, name)["quantisation"]["int8_share"] >= 0.5


def test_no_gate_fails_on_real_pictures_and_half_precision_needs_more_of_them(wild):
    report, _ = wild
    assert report["verdict"]["outcome"] == "undecided"
    open_gates = {gate["name"]: gate for gate in engine_of(report, "onnxruntime fp16")["gates"] if gate["need"]}
    assert open_gates["|ΔACC| in points"]["value"] == 0
    assert open_gates["|ΔACC| in points"]["need"] > 3688  # as many as one set of them would need, and sets are uneven


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_swapped_channels_are_caught_on_real_pictures(official_deployment, wild, shared, tmp_path, precision):
    _, rows = wild
    chosen = [row for row in rows if row["engine"] == "pytorch fp32" and row["set"] == "stylegan2_ffhq256"][::4]
    labels = np.array([int(row["label"]) for row in chosen])
    paths = tuple(Path(row["path"]) for row in chosen)
    graph = onnx.load(official_deployment.graph(precision))
    (tensor,) = [tensor for tensor in graph.graph.initializer if tensor.name == "conv1.weight"]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:, ::-1].copy(), tensor.name))
    (tmp_path / "swapped.onnx").write_bytes(seal_graph(graph))
    images = np.stack([read_image(path) for path in paths])

    def score(path):
        with closing(load_engine(path)) as engine:
            return [("set", Scores(paths=paths, labels=labels, logits=engine.logits(images)))]

    logits = np.array([float(row["logit"]) for row in chosen], dtype=np.float32)
    expected = [("set", Scores(paths=paths, labels=labels, logits=logits))]
    reference = measure_suite("wild", expected, 0.0, rounds=50)
    for path, caught in ((official_deployment.graph(precision), False), (tmp_path / "swapped.onnx", True)):
        result = compare_suite("wild", score(path), reference, 0.0)
        gates = judge_suite(precision, result, reference.spread)
        assert any(gate.outcome == "fails" for gate in gates) is caught


def engine_of(report, name):
    (engine,) = [engine for engine in report["engines"] if engine["name"] == name]
    return engine


def test_the_pages_say_what_came_out(wild):
    report, rows = wild
    readme, page = read_flowing("README.md"), read_flowing("docs/verification.md")
    for engine, row in zip(
        report["engines"],
        (
            "PyTorch FP32",
            "ONNX Runtime FP32",
            "ONNX Runtime FP16 graph",
            "ONNX Runtime INT8 graph for TensorRT",
            "ONNX Runtime INT8 graph for the CPU",
        ),
        strict=True,
    ):
        suite, made = engine["suites"][0], engine["quantisation"]
        flips = "reference" if engine is report["engines"][0] else suite["against"]["flips"]
        acc, ap = (suite["mean"][name]["value"] for name in ("acc", "ap"))
        share = "-" if made is None else f"{100 * made['int8_share']:.0f} %"
        assert find_row("README.md", row)[1:] == (share, f"{acc:.2f}", f"{ap:.2f}", str(flips))
    needs = [
        max(gate["need"] or 0 for gate in engine_of(report, name)["gates"])
        for name in ("onnxruntime fp16", "onnxruntime int8 tensorrt")
    ]
    assert "FP16 needs {:,} of the kind, INT8 for TensorRT {:,}.".format(*needs) in page
    complete = [part for part in suite["sets"] if part["ap"] is not None]
    assert f"the {len(complete)} sets that have both classes" in readme
    for text in (readme, page):
        assert f"{suite['pictures']} photographs and generator outputs of {len(suite['sets'])} test sets" in text
    assert f"that gives {authors_average_precision(rows):.2f}." in page


def test_the_page_says_what_a_jpeg_leaves_of_the_detector(verified, shared):
    workdir, _ = verified
    suites = load_suites(str(shared / "wild"), None)
    conditions = {"the file as it is": AS_IS, "JPEG, quality 98": encode_jpeg(98)}
    with ScoreCache(workdir.score_cache, pytest.fail) as cache:
        engine = choose_envelope_engine(workdir, find_candidates(workdir, "cpu"), suites, None)
        planned = [make_tasks(suite, published_reading(suite.size, batch=32)) for suite in suites]
        with closing(make_scorer(engine, required=True)) as scorer:
            found = measure_envelope(scorer, planned, cache=cache, conditions=tuple(conditions.values()))
    assert found.cached == found.conditions[0].pictures
    for name, result in zip(conditions, found.conditions, strict=True):
        figures = result.figures
        stated = find_row("docs/verification.md", name)[1:]
        for estimate, cell in zip((figures.acc, figures.ap, figures.acc_fake, figures.fpr), stated, strict=True):
            value, low, high = (100 * share for share in (estimate.value, estimate.low, estimate.high))
            assert cell == f"{value:.1f} ({low:.0f}-{high:.0f})", name


def test_the_pages_say_what_is_left_where_fakes_are_stored_as_real_pictures(verified, shared):
    workdir, _ = verified
    suites = load_suites(str(shared / "wild"), None)
    with ScoreCache(workdir.score_cache, pytest.fail) as cache:
        engine = choose_envelope_engine(workdir, find_candidates(workdir, "cpu"), suites, None)
        planned = [make_tasks(suite, published_reading(suite.size, batch=32)) for suite in suites]
        with closing(make_scorer(engine, required=True)) as scorer:
            stored, aligned = (one.figures for one in measure_aligned(scorer, planned, cache=cache).conditions)
    for name, figures in (("as stored", stored), ("fakes stored as real pictures", aligned)):
        shares = (figures.acc, figures.ap, figures.acc_fake, figures.fpr)
        assert find_row("README.md", name)[1:] == tuple(f"{100 * share.value:.1f}" for share in shares)
    facts = read_all_facts([image.path for part in suites[0].sets for image in part.images])
    areas = {one.set: one.auc for one in find_confounders("wild", suites[0].sets, facts) if one.property == "format"}
    assert areas.pop("wild") > 0.7
    assert "all 261 JPEG files of these pictures are real" in read_flowing("README.md").replace("All", "all")
    for before, after in zip(stored.sets, aligned.sets, strict=True):
        if before.ap is not None:
            cells = [_cell(one) for one in (before.acc, after.acc, before.acc_fake, after.acc_fake)]
            area = f"{areas[before.name]:.2f}" if before.name in areas else "-"
            assert find_row("docs/verification.md", before.name)[1:] == (area, *cells)
    means = [_cell(one) for one in (stored.acc, aligned.acc, stored.acc_fake, aligned.acc_fake)]
    assert find_row("docs/verification.md", "mean")[1:] == ("-", *means)


def _cell(estimate):
    value, low, high = (100 * share for share in (estimate.value, estimate.low, estimate.high))
    return f"{value:.1f} ({low:.0f}-{high:.0f})"


def test_the_pages_say_what_a_rate_of_false_accusations_costs(wild):
    _, rows = wild
    logits, labels = (
        np.array([kind(row[name]) for row in rows if row["engine"] == "onnxruntime fp32"])
        for name, kind in (("logit", np.float32), ("label", int))
    )
    paths = tuple(Path(str(index)) for index in range(len(labels)))
    choice = choose([("wild", Scores(paths=paths, labels=labels, logits=logits))], Claim(rate=0.01))
    for name, shares in (("0, the paper's", choice.at_zero), (f"{choice.threshold:g}, for 1 %", choice.all)):
        cells = [
            f"{100 * one.value:.2f} ({100 * one.low:.2f}-{100 * one.high:.2f})"
            for one in (shares.real_called_fake.estimate, shares.fake_called_fake.estimate)
        ]
        assert list(find_row("docs/decisions.md", name)[1:]) == cells
    bound = f"at most {100 * choice.all.real_called_fake.bound:.2f} % of real pictures like these"
    assert bound in read_flowing("docs/decisions.md")


def test_the_page_says_what_int8_by_the_defaults_of_tools_costs(official_deployment, wild):
    _, rows = wild
    reference = [row for row in rows if row["engine"] == "onnxruntime fp32"]
    source, info = read_origin(official_deployment)
    half = make_graph(source, ExportConfig(size=info.contract.size, precision=Precision.FP16))
    ranges = {
        # In every INT8 graph the first scale is one grey level.
        name: tensor.candidates[Recipe.TENSORRT].get("min/max", tensor.chosen(Recipe.TENSORRT))
        for name, tensor in read_ranges(official_deployment.ranges).tensors.items()
        if Recipe.TENSORRT in tensor.candidates
    }
    plain = prepare_int8(half, Int8Config(recipe=Recipe.TENSORRT, ranges=ranges))
    with PictureStore() as store:
        for row in reference:
            store.add(read_image(Path(row["path"])))
        found = score_graph(make_int8_graph(plain, info.config.layers), store, range(len(reference))) > 0
    expected = np.array([float(row["logit"]) > 0 for row in reference])
    labels = np.array([row["label"] == "1" for row in reference])
    names = np.array([row["set"] for row in reference])
    both = [name for name in set(names) if len(set(labels[names == name])) == 2]
    acc = 100 * np.mean([np.mean((found == labels)[names == name]) for name in both])
    row = find_row("docs/int8.md", "every layer in INT8 for TensorRT, min/max ranges, weights rounded to the nearest")
    assert row[1:] == (str(np.sum(found != expected)), f"{acc:.2f}")


def authors_average_precision(rows):
    """AP in per cent over float32 sigmoids, mean over the sets with both classes."""
    precisions = []
    for name in {row["set"] for row in rows} - {"kodak_tiles"}:
        chosen = [row for row in rows if row["set"] == name and row["engine"] == "pytorch fp32"]
        logits = np.array([row["logit"] for row in chosen], dtype=np.float32)
        labels = np.array([row["label"] for row in chosen], dtype=int)
        precisions.append(average_precision(1 / (1 + np.exp(-logits)), labels))
    return 100 * np.mean(precisions)


def test_the_page_says_how_much_memory_the_published_checkpoint_takes_and_its_speed_at_best(
    official_deployment, tmp_path
):
    library = load_library("tensorrt-rtx")
    if f"tensorrt-rtx {library.version}" not in read_flowing("docs/engines.md"):
        pytest.skip(f"docs/engines.md gives the figures of another version than {library.version}")
    workdir = Workdir(tmp_path / "deploy")
    shutil.copytree(official_deployment.path, workdir.path)
    made = quantise_into(workdir, Recipe.TENSORRT, Budget(), target=RtxTarget(library, ("sm86",)))
    assert [name for name, layer in made.findings["layers"].items() if layer["precision"] == "int8"] == [
        "conv3",
        "conv4",
        "projection",
    ]
    for precision in Precision:
        target = BuildTarget(library, ("sm86",), "")
        (built,) = build_into(workdir, precision, target, BuildConfig(), on_message=print)
        weights, activations = built.info.weights_bytes / 2**20, built.info.activation_bytes / 2**20
        stated = find_row("docs/engines.md", precision.upper())
        assert stated == (precision.upper(), f"{weights:.1f} MiB", f"{activations:.1f} MiB")
        kernels = describe_kernels(built.info)
        moved, fps = kernels["picture_bytes"] / 1e6, kernels["cards"][0]["fps"]
        name = f"{precision.upper()} at best"
        assert find_row("docs/engines.md", name) == (name, f"{moved:.1f}", f"{fps:,}")
