import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from lfm_deploy.images import SkippedImage
from lfm_deploy.report.document import make_report, scores_as_rows
from lfm_deploy.report.terminal import print_report
from lfm_deploy.suites import load_suites
from lfm_deploy.verification import verify


@pytest.fixture(scope="module")
def found(deployment, pictures):
    verification = verify(deployment, load_suites(pictures), speed_seconds=0)
    verification.skipped.extend(
        SkippedImage(Path(f"broken[red]{index}.png"), "the file is empty") for index in range(9)
    )
    return verification


@pytest.fixture(scope="module")
def report(found):
    return make_report(found, suites=["suite"], device="cpu")


def printed(report, width=200):
    out = io.StringIO()
    print_report(report, Console(file=out, width=width))
    return out.getvalue()


def test_it_is_json_and_says_where_its_figures_come_from(report):
    values = json.loads(json.dumps(report))
    assert values["environment"]["processor"]
    assert values["environment"]["threads"] >= 1
    assert {"torch", "onnxruntime"} <= set(values["environment"]["libraries"])
    assert all(len(engine["sha256"]) == 64 for engine in values["engines"])


def test_what_was_not_run_is_never_shown_as_run(report, no_gpu):
    for engine in report["engines"]:
        if engine["name"].startswith("tensorrt"):
            assert engine["not_run"]
            assert engine["suites"] == engine["gates"] == engine["speeds"] == []
    text = printed(report)
    assert "2 not run" in text
    (line,) = [line for line in text.splitlines() if line.strip().startswith("tensorrt-rtx fp16 sm86")]
    assert line.split()[3:] == ["not", "run", "-", "-", "-", "-", "-"]


def test_skipped_pictures_are_counted_and_listed(report):
    text = printed(report)
    assert "skipped pictures: 9" in text
    # A file name is text, not markup.
    assert "broken[red]0.png: the file is empty" in text
    assert "… and 4 more" in text
    assert len(report["skipped"]) == 9


def test_every_logit_is_a_row(found):
    rows = scores_as_rows(found)
    assert len(rows) == 3 * 24
    assert {row["label"] for row in rows} == {0, 1}
    assert {row["set"] for row in rows} == {"first", "second"}


def test_figures_are_per_cent_and_means_of_the_sets(report):
    suite = report["engines"][0]["suites"][0]
    accuracies = [part["acc"] for part in suite["sets"]]
    assert suite["acc"] == pytest.approx(sum(accuracies) / 2)
    assert max(accuracies) > 1


def test_a_terminal_of_80_columns_cuts_nothing(report):
    text = printed(report, width=80)
    assert "…" not in text.replace("… and", "")
    assert all(heading in text for heading in ("gates", "reference", "hold", "ACC %", "flips", "not run"))
