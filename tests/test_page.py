import copy
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lfm_deploy.images import SkippedImage
from lfm_deploy.quantising import describe_quantisation
from lfm_deploy.report.document import make_report, scores_as_rows
from lfm_deploy.report.page import make_page
from lfm_deploy.suites import load_suites
from lfm_deploy.verification import verify


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """Two test sets of 64x64 pictures."""
    from PIL import Image

    from lfm_deploy.photographs import sample_tiles

    folder = tmp_path_factory.mktemp("page") / "suite"
    for index, tile in enumerate(sample_tiles(64, 64, 24)):
        home = folder / ("first", "second")[index % 2] / ("0_real", "1_fake")[index // 2 % 2]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tile).save(home / f"{index:02}.png")
    return folder


@pytest.fixture(scope="module")
def made(calibrated, suite):
    found = verify(calibrated, load_suites(suite, size=64), speed_seconds=0)
    found.skipped.append(SkippedImage(Path("<script>alert(1)</script>.png"), "the file is empty"))
    report = make_report(found, suites=["suite"], device="cpu", quantised=describe_quantisation(calibrated))
    return report, scores_as_rows(found)


class Parser(HTMLParser):
    """Tags that are open at the end, tags and text seen, and addresses that a browser would load."""

    EMPTY = ("meta", "br", "link", "img")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.loads, self.text = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def page(made):
    return Parser(make_page(*made))


def test_it_is_whole_and_needs_nothing_else(page):
    assert page.open == []
    assert page.tags[:2] == ["html", "head"]
    assert all(address.startswith("#") for address in page.loads)  # matplotlib's own glyphs and clips
    assert not {"script", "link", "img", "iframe"} & set(page.tags)


def test_every_section_is_there(made, page):
    text = " ".join(" ".join(page.text).split())
    for part in (
        made[0]["verdict"]["text"],
        "INT8 against FP32",
        "INT8 for ONNX Runtime on the CPU: 100 % of the multiply-adds",
        "INT8 for TensorRT: 100 % of the multiply-adds",
        "Activations on calibration pictures, and what INT8 keeps of them",
        "Skipped pictures",
        "Where this was measured",
        "On 48 pictures that chose nothing",
    ):
        assert part in text, part
    # Two scatters, and for each recipe a plot of layers and one of activations.
    assert page.tags.count("svg") == 6


def test_names_of_files_stay_text(made, page):
    assert "<script>alert(1)</script>.png" in page.text
    assert "script" not in page.tags
    report = copy.deepcopy(made[0])
    report["engines"][1]["name"] = "<b>bold"
    rows = [row | {"engine": "<b>bold"} if row["engine"] == "onnxruntime fp32" else row for row in made[1]]
    assert "b" not in Parser(make_page(report, rows)).tags


def test_what_failed_and_what_was_not_run_are_said(made):
    report = copy.deepcopy(made[0])
    engine = report["engines"][2]
    engine["gates"][0] |= {"outcome": "fails", "text": "test sets with a logit that is no number is 1, allowed 0"}
    report["engines"][3] |= {"not_run": "no CUDA device", "suites": [], "gates": [], "speeds": []}
    report["engines"][3]["quantisation"]["within_budget"] = False
    report["quantisation"]["cpu"] |= {"within_budget": False, "tensors": {}}
    text = " ".join(" ".join(Parser(make_page(report, made[1])).text).split())
    assert f"{engine['name']}: test sets with a logit that is no number is 1, allowed 0" in text
    assert f"no CUDA device: {report['engines'][3]['name']} (built outside its budget)" in text
    assert "Outside its budget" in text
    assert "No histograms: ranges.json is missing, or has changed" in text


def test_the_same_report_gives_the_same_page(made):
    assert make_page(*made) == make_page(*made)
