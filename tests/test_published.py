"""The published checkpoint, deployed as by a user: what it must hold on real pictures, and what the pages say of it."""

import csv
import json
import re
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import published_record as record
import pytest
from documentation import ROOT, find_row, read_flowing

from calib.search_findings import read_findings
from engines.cpu_settings import CpuSettings
from export.graph import ExportConfig, make_graph
from export.proof import BATCHES
from lfm_deploy.artifacts import Precision
from lfm_deploy.deployment.lineup import find_candidates
from lfm_deploy.machine import has_amx
from lfm_deploy.metrics.decisions import average_precision
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.pictures.images import read_image
from lfm_deploy.quantisation import Recipe
from lfm_deploy.scoring.scorers import published_reading
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.scoring.suite_scores import make_scorer, make_tasks
from lfm_deploy.storage.graph_file import seal_graph
from lfm_deploy.suites import load_suites
from lfm_deploy.suites.confounders import find_confounders, read_all_facts
from lfm_deploy.thresholds.choice import Claim, choose
from lfm_deploy.verification.aligned import measure_aligned
from lfm_deploy.verification.conditions import AS_IS
from lfm_deploy.verification.envelope import choose_envelope_engine, measure_envelope

# The largest that an answer may move, and five times their mean; on the processor of the record none moves at all. For
# float32 it is the acceptance, for FP16 what its graph itself moves the golden logits by. In INT8 a processor that sums
# in another order may round a few weights the other way: the mean is two thirds of what INT8 moves logits by.
TOLERANCES = {"fp32": 1e-3, "fp16": 0.05, "int8 cpu": 0.5, "int8 tensorrt": 0.5}


def test_the_kept_answers_are_of_this_code_and_of_these_versions():
    made_with = record.read_made_with()
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    remedy = "INT8 may come out otherwise now: run 'make figures', and let the pages say what it finds"
    for name in ("torch", "onnx", "onnxscript", "onnxruntime", "tensorrt-rtx"):
        assert made_with["versions"][name].partition("+")[0] == pinned[name], remedy  # +cpu is a build of it
    if made_with["python"] == f"{sys.version_info.major}.{sys.version_info.minor}":  # each writes code in its own way
        assert made_with["sources_sha256"] == record.hash_sources(), remedy


def test_a_sample_of_real_pictures_is_scored_anew_and_gives_the_kept_answers(wild, shared):
    report, rows = wild
    answers, sample = record.read_answers(), record.choose_sample()
    for engine in report["engines"]:
        known = record.take_known(engine["name"], shared / "wild")
        digests = record.hash_pictures(shared / "wild", answers[engine["name"]])
        assert engine["cached"] == sum(digest in known for digest in digests.values())
        assert engine["suites"][0]["pictures"] - engine["cached"] >= len(sample)
        (tolerance,) = [limit for name, limit in TOLERANCES.items() if engine["name"].endswith(name)]
        anew = {
            record.name_picture(row["path"]): float(row["logit"]) for row in rows if row["engine"] == engine["name"]
        }
        moved = np.array([abs(anew[path] - answers[engine["name"]][path]) for path in sample])
        assert moved.max() <= tolerance, engine["name"]
        assert moved.mean() <= tolerance / 5


def test_its_graph_is_proved(official_deployment):
    proof = json.loads((official_deployment.path.parent / "proof.json").read_text())
    assert [row["batch"] for row in proof] == list(BATCHES)
    assert max(row["max_error"] for row in proof) <= 1e-3  # the acceptance; 6e-5 was seen


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


@pytest.mark.skipif(not has_amx(), reason="this processor has no AMX")
def test_the_kernels_for_amx_flip_no_decision_as_the_pages_say(
    wild, official_deployment, official_checkpoint, tmp_path
):
    from engines.amx.engine import AmxEngine

    _, rows = wild
    logits = {
        engine: {row["path"]: float(row["logit"]) for row in rows if row["engine"] == engine}
        for engine in ("pytorch fp32", "onnxruntime int8 cpu")
    }
    paths = sorted(logits["pytorch fp32"])
    pictures = np.stack([read_image(Path(path), 256) for path in paths])
    exact, integers = (np.array([logits[engine][path] for path in paths]) for engine in logits)
    bf16 = tmp_path / "lfm.bf16.onnx"
    config = ExportConfig(precision=Precision.BF16)
    bf16.write_bytes(seal_graph(make_graph(read_checkpoint(official_checkpoint), config)))
    way = CpuSettings(runtime="amx", streams=2, threads=1, piece=1)
    found = AmxEngine(bf16, way).logits(pictures)
    assert ((found > 0) == (exact > 0)).all()
    assert np.abs(found - exact).mean() < 0.2  # 0.1 was seen; eight bits a value
    found = AmxEngine(official_deployment.graph(Precision.INT8, Recipe.CPU), way).logits(pictures)
    # The same integers; only the linear layer's sums of float32 are in another order.
    np.testing.assert_allclose(found, integers, rtol=0, atol=1e-3)
    assert "On a processor with AMX, the BF16 graph flips none of them either." in read_flowing("README.md")
    for precision in ("BF16", "INT8"):
        assert find_row("docs/speed.md", f"kernels for AMX, {precision}")[-1] == "0"


def test_no_gate_fails_on_real_pictures_and_half_precision_needs_more_of_them(wild):
    report, _ = wild
    assert report["verdict"]["outcome"] == "undecided"
    open_gates = {gate["name"]: gate for gate in engine_of(report, "onnxruntime fp16")["gates"] if gate["need"]}
    assert open_gates["|ΔACC| in points"]["value"] == 0
    assert open_gates["|ΔACC| in points"]["need"] > 3688  # as many as one set of them would need, and sets are uneven


def engine_of(report, name):
    (engine,) = [engine for engine in report["engines"] if engine["name"] == name]
    return engine


def test_the_pages_say_what_came_out(wild, official_deployment):
    report, rows = wild
    findings = read_findings(official_deployment)
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
        *figures, unseen = find_row("README.md", row)[1:]
        assert figures == [share, f"{acc:.2f}", f"{ap:.2f}", str(flips)]
        judged = None if made is None else findings[Recipe(made["recipe"])]["trials"][-1]["judged_by"]
        told = [float(number) for number in re.findall(r"\d+\.\d+", unseen)]
        # Another processor rounds sums otherwise, and a hundred pictures have few near the threshold.
        expected = [] if judged is None else [judged["flips"], judged["flips_high"]]
        assert told == pytest.approx(expected, abs=0.05)
    name = "onnxruntime int8 cpu"
    logits = {
        one: {row["path"]: float(row["logit"]) for row in rows if row["engine"] == one}
        for one in (name, "pytorch fp32")
    }
    near = [path for path, logit in logits["pytorch fp32"].items() if abs(logit) <= 8]
    moved = np.mean([abs(logits[name][path] - logits["pytorch fp32"][path]) for path in near])
    (told,) = re.findall(r"in INT8 for the CPU is (\d\.\d+), by", read_flowing("docs/int8.md"))
    assert moved == pytest.approx(float(told), abs=0.05)  # a processor that rounds otherwise may choose other ranges
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


@contextmanager
def open_treated(workdir, wild, column):
    """The scorer of the envelope, the pictures, and what is known: those as they are, and a column of treated ones.

    At the end, what was scored anew must be what was kept.
    """
    suites = load_suites(str(wild), None)
    engine = choose_envelope_engine(workdir, find_candidates(workdir, "cpu"), suites, None)
    planned = [make_tasks(suite, published_reading(suite.size, batch=32)) for suite in suites]
    plain, treated = (record.take_known(name, wild) for name in (record.FP32, column))
    with closing(make_scorer(engine, required=True)) as scorer:
        key = scorer.key(planned[0].tasks[0].reading)
        cache = record.KeptAnswers(lambda asked: plain if asked == key else treated)
        yield scorer, planned, cache
    again = 0
    for asked, found in cache.added.items():
        kept = record.read_answers()[record.FP32 if asked == key else column]
        digests = record.hash_pictures(wild, kept)
        for path, digest in digests.items():
            if digest in found:
                assert found[digest] == pytest.approx(kept[path], abs=TOLERANCES["fp32"]), path
                again += 1
    assert again >= 20


# What README says of some of them.
TOLD = {
    "the file as it is": "of the fakes instead of {fakes:.1f} %",
    "JPEG, quality 98": "the published checkpoint finds {fakes:.1f} % of the fakes",
    "scaled by 0.5": "of photographs scaled by 0.5, it calls {accused:.1f} % fake",
}


@pytest.mark.parametrize("name", ["the file as it is", *record.CONDITIONS])
def test_the_page_says_what_is_left_of_the_detector(verified, shared, name):
    workdir, _ = verified
    condition = record.CONDITIONS.get(name, AS_IS)
    column = name if name in record.CONDITIONS else record.FP32
    with open_treated(workdir, shared / "wild", column) as (scorer, planned, cache):
        (found,) = measure_envelope(scorer, planned, cache=cache, conditions=(condition,)).conditions
    figures = found.figures
    assert f"({found.pictures} pictures)" in name or found.pictures == 965
    stated = find_row("docs/verification.md", name)[1:]
    for estimate, cell in zip((figures.acc, figures.ap, figures.acc_fake, figures.fpr), stated, strict=True):
        value, low, high = (100 * share for share in (estimate.value, estimate.low, estimate.high))
        assert cell == f"{value:.1f} ({low:.0f}-{high:.0f})"
    if name in TOLD:
        told = TOLD[name].format(fakes=100 * figures.acc_fake.value, accused=100 * figures.fpr.value)
        assert told in read_flowing("README.md")


def test_the_pages_say_what_is_left_where_fakes_are_stored_as_real_pictures(verified, shared):
    workdir, _ = verified
    with open_treated(workdir, shared / "wild", record.ALIGNED) as (scorer, planned, cache):
        stored, aligned = (one.figures for one in measure_aligned(scorer, planned, cache=cache).conditions)
    suites = [one.suite for one in planned]
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


def authors_average_precision(rows):
    """AP in per cent over float32 sigmoids, mean over the sets with both classes."""
    precisions = []
    for name in {row["set"] for row in rows} - {"kodak_tiles"}:
        chosen = [row for row in rows if row["set"] == name and row["engine"] == "pytorch fp32"]
        logits = np.array([row["logit"] for row in chosen], dtype=np.float32)
        labels = np.array([row["label"] for row in chosen], dtype=int)
        precisions.append(average_precision(1 / (1 + np.exp(-logits)), labels))
    return 100 * np.mean(precisions)
