import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from typed_values import find_misfits

from lfm_deploy.artifacts import Precision
from lfm_deploy.metrics.estimate import Estimate
from lfm_deploy.metrics.gate import judge_exactly, judge_interval
from lfm_deploy.pictures.images import SkippedImage
from lfm_deploy.quantisation import Budget
from lfm_deploy.report.document import make_report, scores_as_rows
from lfm_deploy.report.schema import Report, ScoreRow
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.suites import load_suites
from lfm_deploy.suites.published import average_precision_of_sigmoids
from lfm_deploy.verification.comparison import compare_suite, measure_suite
from lfm_deploy.verification.gates import judge_suite
from lfm_deploy.verification.verification import verify
from lfm_deploy.verification.verification_result import EngineResult, Verification
from lfm_deploy.verification.verify_options import VerifyOptions


@pytest.fixture(scope="module")
def found(deployment, pictures):
    # 24 pictures can show no less than that.
    options = VerifyOptions(speed_seconds=0, limits=Budget(acc=20, ap=20, flips=20))
    verification = verify(deployment, load_suites(pictures), options)
    broken = (SkippedImage(Path(f"broken[red]{index}.png"), "the file is empty") for index in range(9))
    return replace(verification, skipped=(*verification.skipped, *broken))


@pytest.fixture(scope="module")
def report(found):
    return make_report(found, device="cpu")


def test_it_is_json_and_says_where_its_figures_come_from(report):
    values = json.loads(json.dumps(report))
    assert find_misfits(values, Report) == []
    assert values["environment"]["processor"]
    assert values["environment"]["threads"] >= 1
    assert {"torch", "onnxruntime"} <= set(values["environment"]["libraries"])
    assert all(len(engine["sha256"]) == 64 for engine in values["engines"])


def test_what_was_not_run_is_never_shown_as_run(report, no_gpu):
    for engine in report["engines"]:
        if engine["name"].startswith("tensorrt"):
            assert engine["not_run"]
            assert engine["suites"] == engine["gates"] == engine["speeds"] == []


def test_every_logit_is_a_row(found):
    rows = scores_as_rows(found)
    assert [misfit for row in rows for misfit in find_misfits(row, ScoreRow)] == []
    assert len(rows) == 3 * 24
    assert {row["label"] for row in rows} == {0, 1}
    assert {row["set"] for row in rows} == {"first", "second"}


def test_figures_are_per_cent_and_means_of_the_sets(report):
    suite = report["engines"][0]["suites"][0]
    accuracies = [part["acc"]["value"] for part in suite["sets"]]
    assert suite["mean"]["acc"]["value"] == pytest.approx(sum(accuracies) / 2)
    assert suite["mean"]["acc"]["low"] < suite["mean"]["acc"]["value"] < suite["mean"]["acc"]["high"] <= 100
    assert max(accuracies) > 1
    assert [fixed["fpr"] for fixed in suite["pooled"]["at_fpr"]] == [0.1, 1, 5]
    assert suite["pooled"]["at_fpr"][0] == {"fpr": 0.1, "threshold": None, "acc_fake": None}  # 12 real pictures


def test_a_comparison_and_its_gates_are_plain_values(report):
    reference, fp32, fp16 = (engine for engine in report["engines"] if engine["not_run"] is None)
    assert reference["suites"][0]["against"] is None
    against = fp16["suites"][0]["against"]
    assert against["flips"] == len(against["flipped"]) == 0
    assert against["delta_acc"]["value"] == 0
    assert against["delta_acc"]["high"] == pytest.approx(100 * (1 - 0.025 ** (1 / 24)), abs=1e-9)  # float64 rounding
    assert 0 < fp32["suites"][0]["against"]["logit_error"]["max"] < against["logit_error"]["max"]
    gates = {gate["name"]: gate for gate in fp16["gates"]}
    assert gates["|ΔACC| in points"] == {
        "suite": "suite",
        "name": "|ΔACC| in points",
        "value": 0,
        "low": 0,
        "high": pytest.approx(against["delta_acc"]["high"], abs=1e-8),  # rounded to 9 digits
        "limit": 20,
        "outcome": "holds",
        "need": None,
        "text": "|ΔACC| in points is 0 (95 %: 0 to 14.2), allowed 20",
    }


def test_what_too_few_pictures_leave_open_is_said_with_how_many_would_do(found):
    reference, fp32, fp16, *others = found.engines
    gate = judge_interval("suite", "|ΔACC| in points", Estimate(0, 0, 14.2), 0.1, pictures=24, need=3688)
    fp32 = replace(fp32, gates=(gate,))
    values = make_report(replace(found, engines=(reference, fp32, fp16, *others)), device="cpu")
    assert values["verdict"]["outcome"] == "undecided"
    assert not values["verdict"]["passed"]
    assert values["verdict"]["text"] == (
        "UNDECIDED on CPU: no gate fails, but these 24 pictures are too few for onnxruntime fp32; need ≥ 3,688; "
        "2 not run"
    )
    fp16 = replace(fp16, gates=(judge_exactly("suite", "flipped decisions", 1, 0),))
    values = make_report(replace(found, engines=(reference, fp32, fp16, *others)), device="cpu")
    assert values["verdict"]["outcome"] == "failed"
    assert values["verdict"]["text"] == "FAILED on CPU: onnxruntime fp16 broke a gate; 2 not run"
    nothing = replace(found, engines=(reference, others[0]))
    assert make_report(nothing, device="cpu")["verdict"]["outcome"] == "nothing"


def test_a_logit_that_is_no_number_is_null_in_json():
    labels = np.array([0, 1] * 12)
    paths = tuple(Path(f"{index}.png") for index in range(24))
    logits = np.linspace(-2, 2, 24, dtype=np.float32)
    good = measure_suite("suite", [("set", Scores(paths=paths, labels=labels, logits=logits))], 0.0, rounds=5)
    broken = logits.copy()
    broken[-1] = np.nan
    scores = [("set", Scores(paths=paths, labels=labels, logits=broken))]
    result = compare_suite("suite", scores, good, 0.0)
    gates = judge_suite(Precision.FP16, result, good.spread)
    engine = EngineResult(
        name="broken",
        path=Path("broken.onnx"),
        place="here",
        sha256="",
        precision=Precision.FP16,
        suites=(result,),
        gates=gates,
    )
    values = make_report(Verification(engines=(engine,)), device="cpu")
    assert find_misfits(values, Report) == []
    (written,) = json.loads(json.dumps(values, allow_nan=False))["engines"]
    assert written["suites"][0]["against"]["flipped"][0]["logit"] is None
    assert written["suites"][0]["against"]["logit_error"]["max"] is None
    assert written["suites"][0]["sets"][0]["ap"] is None
    assert {gate["name"]: gate["value"] for gate in written["gates"]}["|ΔAP| in points"] is None


def test_it_says_when_and_by_which_command(found):
    at = datetime(2026, 11, 25, 3, 0, 0, tzinfo=timezone(timedelta(hours=1)))
    command = ["lfm-deploy", "verify", "--suite", "my pictures"]
    assert make_report(found, device="cpu", at=at, command=command)["made"] == {
        "at": "2026-11-25T02:00:00Z",
        "command": command,
    }
    own = make_report(found, device="cpu")["made"]
    assert own["command"][0] == "lfm-deploy"
    written = datetime.fromisoformat(own["at"])
    assert abs(datetime.now(UTC) - written) < timedelta(minutes=5)


def test_suites_say_what_was_judged(report):
    (suite,) = report["suites"]
    assert (suite["name"], suite["size"], suite["pictures"]) == ("suite", 256, 24)
    assert suite["sets"] == [{"name": name, "real": 6, "fake": 6} for name in ("first", "second")]
    assert suite["published"] is report["group"] is None


def test_published_suites_have_the_papers_figures_and_a_group_has_its_own(found):
    names = ("ForenSynths", "GANGen-Detection")
    judged = replace(found, suites=tuple(replace(found.suites[0], name=name, published=True) for name in names))
    values = make_report(judged, device="cpu")
    assert [suite["published"]["tables"] for suite in values["suites"]] == [["VIII", "3"], ["1", "3"]]
    assert values["group"]["name"] == "gan"
    assert values["group"]["published"]["sets"] == list(names)
    assert find_misfits(values, Report) == []
    assert make_report(replace(judged, suites=judged.suites[:1]), device="cpu")["group"] is None


def test_under_a_published_suite_the_papers_kind_of_ap_stands_beside_ours(report, found):
    assert report["engines"][0]["suites"][0]["ap_of_sigmoids"] is None
    judged = replace(found, suites=(replace(found.suites[0], published=True),))
    (suite,) = make_report(judged, device="cpu")["engines"][0]["suites"]
    both = [average_precision_of_sigmoids(part.logits, part.labels) for _, part in found.engines[0].suites[0].scores]
    assert suite["ap_of_sigmoids"] == pytest.approx(50 * sum(both), abs=1e-9)  # float64 rounding


def test_the_reference_is_told_from_the_engines(report):
    assert [engine["kind"] for engine in report["engines"]] == ["reference", *["engine"] * 4]
    assert report["limits"] == {"acc": 20, "ap": 20, "flips": 20}
