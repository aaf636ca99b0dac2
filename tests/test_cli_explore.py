import hashlib
import json
import re
import shutil

import pytest
from PIL import Image
from typed_values import find_misfits

from lfm_deploy.cli import explore as module
from lfm_deploy.cli import run
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.report.exploration_schema import ExplorationReport

FILES = ["evidence.png", "explore.html", "explore.json", "tsne.png"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two test sets of 8 pictures each, one of them with the name of an attack, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("explored") / "sets"
    for index, tile in enumerate(sample_tiles(96, 96, 16)):
        home = folder / ("first", "<b>second")[index % 2] / ("0_real", "1_fake")[index // 2 % 2]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tile).save(home / f"{index:02}<img src=x onerror=alert(1)>.png")
    (folder / "first" / "1_fake" / "broken<script>alert(2).png").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def made(folder, small_checkpoint, tmp_path_factory):
    output = tmp_path_factory.mktemp("drawn") / "explore"
    arguments = ["explore", str(folder), "--checkpoint", str(small_checkpoint), "--output", str(output), "--maps", "4"]
    assert run(arguments) == 0
    return output


@pytest.fixture
def explore_small(folder, small_checkpoint, tmp_path):
    """Run the command over the folder; more options replace these."""

    def explore(*options, pictures=folder):
        output = [] if "--output" in options else ["--output", str(tmp_path / "out")]
        network = [] if "--workdir" in options else ["--checkpoint", str(small_checkpoint)]
        return run(["explore", str(pictures), *network, *output, "--maps", "0", *map(str, options)])

    return explore


def test_all_files_are_there_and_the_values_belong_together(made, small_checkpoint):
    assert sorted(path.name for path in made.iterdir()) == FILES
    report = json.loads((made / "explore.json").read_text())
    assert find_misfits(report, ExplorationReport) == []
    assert report["format"] == "lfm-deploy exploration 1"
    assert report["checkpoint"]["sha256"] == hashlib.sha256(small_checkpoint.read_bytes()).hexdigest()
    counts = report["counts"]
    assert (counts["available"], counts["judged"], counts["skipped"]) == (17, 16, 1)
    assert len(report["points"]) == 16
    for point in report["points"]:
        assert point["verdict"] == ("fake" if point["logit"] > 0 else "real")
        assert point["right"] == (point["verdict"] == ("real", "fake")[point["label"]])
        assert f"/{point['set']}/{('0_real', '1_fake')[point['label']]}/" in point["path"]
    assert counts["right"] == sum(point["right"] for point in report["points"])
    assert {part["set"]: part["judged"] for part in report["sets"]} == {"first": 8, "<b>second": 8}
    assert len(report["examples"]) == 4
    assert "scikit-learn" in report["environment"]["libraries"]


def test_the_command_makes_the_same_again(made, explore_small, tmp_path):
    command = json.loads((made / "explore.json").read_text())["command"]
    assert command.startswith("lfm-deploy explore ")
    import shlex

    assert run([*shlex.split(command)[1:], "--output", str(tmp_path / "again")]) == 0
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (made / name).read_bytes(), name


def test_the_page_opens_without_a_message_and_shows_every_section(made, browser):
    page = browser.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((made / "explore.html").as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    headings = [heading.inner_text() for heading in page.query_selector_all("h2")]
    assert headings == [
        "How the network arranges pictures",
        "Test set by test set",
        "What the network sees",
        "Skipped pictures",
        "How this was made",
    ]
    report = json.loads((made / "explore.json").read_text())
    assert len(page.query_selector_all(".cloud svg[role=img] > g")) == 16
    assert len(page.query_selector_all(".cloud svg[role=img] .ring")) == report["counts"]["wrong"]
    assert len(page.query_selector_all(".sets svg > g")) == 16
    images = page.query_selector_all(".panels img")
    assert len(images) == 16
    assert all(image.evaluate("image => image.complete && image.naturalWidth") == 256 for image in images)
    # Names are text, wherever they stand.
    assert page.query_selector_all("b, script, img[src=x]") == []
    assert "<b>second" in page.inner_text(".sets")
    # In both schemes the ink is readable on the page.
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colours = page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        ink, paper = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
        assert (ink > paper) == (scheme == "dark")
        assert abs(ink - paper) > 400
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.close()


def test_the_terminal_has_a_row_a_test_set(explore_small, capsys):
    assert explore_small() == 0
    said = capsys.readouterr()
    rows = {line.split()[0]: line.split()[1:] for line in said.out.splitlines() if re.search(r"\d$", line.strip())}
    assert rows.keys() >= {"first", "<b>second", "all"}
    assert rows["all"][:2] == ["8", "8"]
    assert "broken<script>alert(2).png: cannot be read" in said.err


def test_a_sample_is_taken_and_evidence_of_an_earlier_run_goes(made, explore_small, tmp_path, capsys):
    output = tmp_path / "own"
    shutil.copytree(made, output)
    assert explore_small("--output", output, "--limit", "12", "--seed", "1", "--json") == 0
    report = json.loads((output / "explore.json").read_text())
    assert report["counts"]["judged"] + report["counts"]["skipped"] == 12
    del report["points"]
    assert json.loads(capsys.readouterr().out) == report
    assert sorted(path.name for path in output.iterdir()) == [name for name in FILES if name != "evidence.png"]


def exported_for(size, workdir, folder):
    """A copy of a workdir whose graph says that it takes pictures of another size."""
    import onnx

    from lfm_deploy.storage.graph_file import seal_graph

    shutil.copytree(workdir.path, folder)
    model = onnx.load(folder / "lfm.onnx")
    (entry,) = (entry for entry in model.metadata_props if "contract" in entry.value)
    values = json.loads(entry.value)
    values["contract"]["size"] = size
    entry.value = json.dumps(values)
    (folder / "lfm.onnx").write_bytes(seal_graph(model))
    return folder


def test_the_workdir_has_the_checkpoint_and_the_size(small_workdir, explore_small, tmp_path):
    workdir = exported_for(64, small_workdir, tmp_path / "deploy")
    assert explore_small("--workdir", workdir, "--maps", "1") == 0
    report = json.loads((tmp_path / "out" / "explore.json").read_text())
    assert report["checkpoint"]["file"] == "lfm.pth"
    assert f"--workdir {workdir}" in report["command"]
    with Image.open(first_image(tmp_path / "out" / "explore.html")) as image:
        assert image.size == (64, 64)


def first_image(page):
    import base64
    import io

    return io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", page.read_text())[1]))


def test_an_interruption_leaves_nothing(explore_small, tmp_path, monkeypatch, capsys):
    from lfm_deploy.report import feature_plots

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(feature_plots, "plot_embedding", interrupt)
    assert explore_small() == 130
    assert not (tmp_path / "out").exists()
    assert "nothing half-written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--perplexity", "many"], 2, "neither 'auto' nor a number"),
        (["--perplexity", "40"], 2, "perplexity is 40, expected 1 to 5.333 for 17 pictures"),
        (["--limit", "5"], 2, "t-SNE of 5 pictures would show nothing; give 10 or more"),
        (["--workdir", "none", "--checkpoint", "x.pth"], 2, "exclude each other"),
        (["--workdir", "none"], 2, "nothing has been exported here"),
        (["--checkpoint", "none.pth"], 2, "no such file"),
        (["--output", __file__], 2, "is a file; give --output"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(options, code, message, explore_small, capsys):
    assert explore_small(*options) == code
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error:")]
    assert message in line


def test_pictures_that_are_not_there(explore_small, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert explore_small(pictures=tmp_path / "empty") == 2
    assert "no picture in it" in capsys.readouterr().err
    assert explore_small(pictures="nothing") == 2
    assert "neither a folder nor a suite" in capsys.readouterr().err


def test_no_space_left_keeps_the_earlier_run(made, tmp_path, monkeypatch):
    import errno

    from lfm_deploy.errors import DeployError
    from lfm_deploy.storage import atomic

    output = tmp_path / "own"
    shutil.copytree(made, output)
    report = json.loads((made / "explore.json").read_text())

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "_flush", full)
    with pytest.raises(DeployError, match="No space left on device; nothing in it was changed"):
        module.write_exploration(output, report | {"seed": 9, "examples": []}, [])
    assert sorted(path.name for path in output.iterdir()) == FILES
    assert (output / "explore.json").read_bytes() == (made / "explore.json").read_bytes()


def test_names_that_are_no_utf8_do_no_harm(explore_small, tmp_path):
    import os

    odd = tmp_path / "odd"
    odd.mkdir()
    for index, tile in enumerate(sample_tiles(64, 64, 10)):
        Image.fromarray(tile).save(os.fsencode(odd) + b"/\xff%d.png" % index, format="PNG")
    assert explore_small("--maps", "2", pictures=odd) == 0
    assert "\ufffd0.png" in (tmp_path / "out" / "explore.html").read_text()
