import json
import re
import shlex
import shutil

import pytest
import yaml
from markdown_it import MarkdownIt

from lfm_deploy.cli import run
from lfm_deploy.errors import ArtifactError
from lfm_deploy.report.card_sources import read_sources
from lfm_deploy.workdir import Workdir


@pytest.fixture(scope="module")
def verified(small_workdir, pictures, make_once):
    """A workdir with everything that a card can state. Do not write."""

    def fill(folder):
        shutil.copytree(small_workdir.path, folder, dirs_exist_ok=True)
        for words in (
            ["threshold", str(pictures), "--fpr", "25%", "--band"],
            ["verify", "--suite", str(pictures), "--envelope", "--aligned", "--allow-undecided"],
        ):
            assert run([*words, "--workdir", str(folder)]) == 0

    return Workdir(make_once("verified", fill))


@pytest.fixture
def own(verified, tmp_path):
    shutil.copytree(verified.path, tmp_path / "deploy")
    return Workdir(tmp_path / "deploy")


def write_card(workdir, capsys, *words):
    assert run(["card", *words, "--workdir", str(workdir.path)]) == 0
    assert capsys.readouterr().out.strip() == str(workdir.card)
    head, text = re.fullmatch(r"---\n(.*?)---\n\n(.*)", workdir.card.read_text(), re.DOTALL).groups()
    return yaml.safe_load(head), text


def test_the_head_is_that_of_hugging_face(own, capsys):
    head, _ = write_card(own, capsys, "--name", "Mine: #1", "--license", "apache-2.0")
    report = json.loads(own.report.read_text())
    assert (head["license"], head["pipeline_tag"], head["library_name"]) == (
        "apache-2.0",
        "image-classification",
        "lfm-deploy",
    )
    (model,) = head["model-index"]
    assert model["name"] == "Mine: #1"
    ran = [engine for engine in report["engines"] if engine["not_run"] is None]
    assert len(model["results"]) == len(ran) == 2
    for engine, result in zip(ran, model["results"], strict=True):
        assert result["task"]["type"] == "image-classification"
        assert result["dataset"]["type"]
        found = {metric["type"]: metric["value"] for metric in result["metrics"]}
        assert found["accuracy"] == round(engine["suites"][0]["mean"]["acc"]["value"], 2)
        assert found["average_precision"] == round(engine["suites"][0]["mean"]["ap"]["value"], 2)


def test_every_figure_is_of_the_files(own, capsys):
    """A card of changed files has the changed figures, so that none is typed by hand."""
    _, before = write_card(own, capsys)
    report, threshold, envelope = (json.loads(path.read_text()) for path in (own.report, own.threshold, own.envelope))
    report["engines"][0]["suites"][0]["mean"]["acc"] = {"value": 12.34, "low": 11.11, "high": 13.31}
    report["aligned"]["conditions"][1]["ap"] = {"value": 23.45, "low": 22.22, "high": 24.42}
    report["engines"][1]["speeds"][0]["fps"] = 34567.0
    threshold["all"]["real_called_fake"]["bound"] = 45.67
    envelope["envelope"]["conditions"][1]["fpr"] = {"value": 56.78, "low": 55.55, "high": 57.75}
    for path, values in ((own.report, report), (own.threshold, threshold), (own.envelope, envelope)):
        path.write_text(json.dumps(values))
    head, after = write_card(own, capsys)
    shown = ("12.3 \\[11.1, 13.3]", "23.4 \\[22.2, 24.4]", "34,567", "45.67 %", "56.8 \\[55.5, 57.8]")
    for figure in shown:
        assert figure in after, figure
        assert figure not in before
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == 12.34


def test_all_parts_are_there_and_every_table_is_whole(own, capsys):
    _, text = write_card(own, capsys)
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert titles == [
        "What it was proved on",
        "What a verdict is worth",
        "On which pictures it works",
        "What else could tell real from fake",
        "With fakes stored as the real pictures of their set",
        "Precisions",
        "Speed",
        "Licence",
        "How to repeat it",
    ]
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    assert sum(token.type == "table_open" for token in tokens) == 6
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert "Not measured" not in text
    assert shlex.join(json.loads(own.report.read_text())["made"]["command"]) in text
    assert re.search(r"^lfm-deploy threshold .* --fpr 25% --band 25%$", text, re.MULTILINE)
    assert "Weights: not stated" in text


def test_what_was_not_measured_is_said_with_its_command(own, capsys):
    own.envelope.unlink()
    report = json.loads(own.report.read_text())
    report["aligned"] = None
    for engine in report["engines"]:
        engine["speeds"] = []
    own.report.write_text(json.dumps(report))
    _, text = write_card(own, capsys)
    for command in ("verify --envelope", "verify --aligned", "without `--no-speed`"):
        assert command in text
    assert run(["card", "--json", "--workdir", str(own.path)]) == 0
    assert json.loads(capsys.readouterr().out)["not_measured"] == ["envelope", "aligned"]


def test_a_card_of_files_that_do_not_belong_together_is_refused(own, other_checkpoint, small_workdir, tmp_path):
    with pytest.raises(ArtifactError, match=r"report\.json: no such file.*lfm-deploy verify"):
        read_sources(small_workdir)
    report = json.loads(own.report.read_text())
    own.report.write_text(json.dumps(report | {"threshold": 7.0}))
    with pytest.raises(ArtifactError, match="stale: judged at another threshold"):
        read_sources(own)
    report["engines"][1]["sha256"] = "0" * 64
    own.report.write_text(json.dumps(report))
    with pytest.raises(ArtifactError, match=r"stale: lfm\.onnx changed since"):
        read_sources(own)
    own.report.write_text("{")
    assert run(["card", "--workdir", str(own.path)]) == 2


def test_an_envelope_of_another_checkpoint_is_left_out(own):
    values = json.loads(own.envelope.read_text())
    own.envelope.write_text(json.dumps(values | {"checkpoint_sha256": "0" * 64}))
    assert read_sources(own).envelope is None
