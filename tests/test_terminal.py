import copy
import io

import pytest
from rich.console import Console
from sample_report import make_sample

from lfm_deploy.report.terminal import print_report


@pytest.fixture(scope="module")
def report():
    return make_sample(per_class=20)[0]


def printed(report, width=120, **options):
    out = io.StringIO()
    print_report(report, Console(file=out, width=width, highlight=False, markup=False, **options))
    return out.getvalue()


def test_the_verdict_comes_first(report):
    assert printed(report).splitlines()[0] == report["verdict"]["text"]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_tables_fit_and_nothing_is_cut(report, width):
    text = printed(report, width)
    assert "…" not in text.replace("… and", "")
    lines = [line for line in text.splitlines() if not line.startswith("  data/")]  # paths are never wrapped
    assert max(len(line) for line in lines) <= width
    for name in ("onnxruntime int8 tensorrt", "tensorrt-rtx fp16 sm86"):
        assert any(name in line for line in lines)


def test_wide_terminals_show_intervals_and_narrow_ones_how_far_they_reach(report):
    mean = report["engines"][0]["suites"][0]["mean"]["acc"]
    assert f"{mean['value']:.1f} [{mean['low']:.1f}, {mean['high']:.1f}]" in printed(report)
    half = max(mean["high"] - mean["value"], mean["value"] - mean["low"])
    narrow = printed(report, 80)
    assert f"{mean['value']:.1f} ±{half:.1f}" in narrow
    assert "± to the further end of the 95 % interval" in narrow


def test_undecided_gates_are_yellow_and_say_what_they_need(report):
    text = printed(report, 200, force_terminal=True, color_system="standard")
    (line,) = [line for line in text.splitlines() if "int8 cpu: gate undecided: mine: |ΔACC|" in line]
    assert line.startswith("\x1b[33m")
    assert "need ≥ 12,000 pictures" in line
    assert any(line.startswith("\x1b[31m") and "gate fails" in line for line in text.splitlines())


def test_an_engine_that_was_not_run_has_no_figures(report):
    text = printed(report)
    assert "not run, no CUDA device: tensorrt-rtx fp16 sm86" in text
    row = next(line for line in text.splitlines() if line.strip().startswith("tensorrt-rtx fp16 sm86"))
    assert row.split()[3:] == ["not", "run", "-", "-", "-", "-"]


def test_published_figures_stand_beside_yours(report):
    text = printed(report)
    part = text.split("beside the published figures")[1]
    theirs = report["suites"][0]["published"]["rows"][-1]
    mine = report["engines"][0]["suites"][0]["mean"]
    delta = mine["acc"]["value"] - theirs["acc"]["mean"]
    row = next(line for line in part.splitlines() if line.strip().startswith("mean"))
    assert f"{theirs['acc']['mean']:.1f} / {theirs['ap']['mean']:.1f}" in row
    assert f"{delta:+.1f} /" in row


def test_lists_are_short_and_names_stay_text(report):
    text = printed(report)
    assert "skipped pictures: 9" in text
    assert "broken[red]0.png: the file is empty" in text
    assert "… and 4 more, all in the JSON" in text
    assert "same|one.png = " in text
    assert "portal <b>uploads</b>" in text


def test_flips_have_both_logits(report):
    flip = max(
        (f for suite in report["engines"][3]["suites"] for f in suite["against"]["flipped"]),
        key=lambda flip: abs(flip["margin"]),
    )
    line = f"{flip['path']}: is {'fake' if flip['label'] else 'real'}; PyTorch {flip['reference']:+.3f}, "
    assert line in printed(report)


def test_the_envelope_is_a_table(report):
    text = printed(report).split("mine: operating envelope of onnxruntime fp32")[1]
    assert all(condition["name"] in text for condition in report["envelope"]["conditions"])


def test_a_suite_of_one_set_has_no_table_of_sets(report):
    report = copy.deepcopy(report)
    report["suites"][1]["sets"] = report["suites"][1]["sets"][:1]
    assert "mine: test sets" in printed(make_sample(per_class=8)[0])
    assert "mine: test sets" not in printed(report)


def test_nothing_that_ran_is_not_an_error(report):
    report = copy.deepcopy(report)
    report |= {"engines": [report["engines"][-1]], "envelope": None}
    report["verdict"] |= {"outcome": "nothing", "text": "NOTHING VERIFIED"}
    assert printed(report).startswith("NOTHING VERIFIED\n")
