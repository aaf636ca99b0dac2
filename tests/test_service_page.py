import io
import json

import numpy as np
import pytest
from documentation import read_page
from mixed_files import encode
from PIL import Image
from service_process import run_service

from lfm_deploy.artifacts import Precision
from lfm_deploy.cli import commands
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.prediction.overlays import CheckpointOverlays
from lfm_deploy.prediction.prediction import predict
from lfm_deploy.serving.open_api import describe_api
from lfm_deploy.serving.pages import make_documentation, page_headers
from lfm_deploy.serving.refusals import Reason
from lfm_deploy.serving.settings import ServiceSettings
from lfm_deploy.workdir import Workdir

LONGEST_MS = 60_000


@pytest.fixture(scope="module")
def service(deployment):
    with run_service(deployment.path) as running:
        yield running


@pytest.fixture(scope="module")
def files(deployment, tmp_path_factory):
    """A picture that is called fake, one that is called real, and a file that is no picture; by verdict."""
    folder = tmp_path_factory.mktemp("dropped")
    for index, tile in enumerate(sample_tiles(256, 256, 16)):
        (folder / f"{index}.png").write_bytes(encode(Image.fromarray(tile), "png"))
    found = {row.verdict: (folder / row.path, row) for row in predict(sorted(folder.glob("*.png")), workdir=deployment)}
    (folder / "letter.png").write_text("no picture")
    return found | {"letter": (folder / "letter.png", None)}


@pytest.fixture
def page(browser, service):
    """The page as it is served; whatever it asks of another host, or says on its console, is a failure."""
    context = browser.new_context()
    opened = context.new_page()
    strangers, complaints = [], []
    opened.on("request", lambda request: strangers.append(request.url) if not is_ours(request.url, service) else None)
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(service.address + "/")
    yield opened
    context.close()
    assert strangers == []
    # A browser notes each answer that is an error; the page shows them.
    assert [text for text in complaints if "status of 4" not in text] == []


def is_ours(url, service):
    return url.startswith((service.address + "/", f"blob:{service.address}/"))


def drop(page, path):
    """What a browser does when a file is let go above a page."""
    transfer = page.evaluate_handle(
        """([name, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name));
            return transfer;
        }""",
        [path.name, list(path.read_bytes())],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


@pytest.mark.parametrize("verdict", ["fake", "real"])
def test_a_dropped_picture_has_predicts_verdict_and_its_evidence(page, files, verdict):
    path, row = files[verdict]
    drop(page, path)
    page.wait_for_selector(f"#result.{verdict}", timeout=LONGEST_MS)
    assert page.inner_text("#verdict") == {"fake": "Generated", "real": "Real"}[verdict]
    assert page.inner_text("#told") == path.name
    shown = dict(line.split("\t") for line in page.inner_text("#row").splitlines())
    assert float(shown["logit"]) == pytest.approx(row.logit, rel=1e-5)  # six digits are shown
    page.wait_for_selector("#overlay:not([hidden])", timeout=LONGEST_MS)
    for name in ("#picture", "#overlay"):
        page.wait_for_function(f"document.querySelector('{name}').naturalWidth === 256", timeout=LONGEST_MS)


def test_a_chosen_file_counts_as_a_dropped_one(page, files):
    page.set_input_files("#file", files["real"][0])
    page.wait_for_selector("#result.real", timeout=LONGEST_MS)


def test_a_file_that_is_no_picture_is_told_so(page, files):
    drop(page, files["fake"][0])
    page.wait_for_selector("#result.fake", timeout=LONGEST_MS)
    drop(page, files["letter"][0])
    page.wait_for_selector("#result.failed", timeout=LONGEST_MS)
    assert page.inner_text("#told") == "cannot be read: not a picture of a known format"
    assert page.inner_text("#row") == ""
    assert page.is_hidden("#overlay")


def test_the_limits_stand_on_the_page_with_the_figures_of_readme(page):
    text, readme = page.inner_text("#limits"), " ".join(read_page("README.md").split())
    for figure in ("finds 1.1 % of the fakes instead of 94.6 %", "40.0 % fake"):
        assert figure in readme
        assert figure in " ".join(text.split())
    assert page.is_visible("#limits")


def test_a_narrow_page_needs_no_scrolling_sideways(page, files):
    page.set_viewport_size({"width": 360, "height": 740})
    drop(page, files["fake"][0])
    page.wait_for_selector("#result.fake", timeout=LONGEST_MS)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_documentation_is_a_page_without_strangers(page, service):
    page.goto(service.address + "/docs")
    text = page.inner_text("body")
    for path in service.get("/openapi.json").json["paths"]:
        assert path in text


def test_a_hostile_name_stays_text(page, files, tmp_path):
    path = tmp_path / "<img src=x onerror=alert(1)>.png"
    path.write_bytes(files["real"][0].read_bytes())
    drop(page, path)
    page.wait_for_selector("#result.real", timeout=LONGEST_MS)
    assert page.inner_text("#told") == path.name


def test_evidence_is_that_of_predict(service, deployment, files):
    path, _ = files["fake"]
    answer = service.post("/v1/evidence", path.read_bytes())
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    images = np.array(Image.open(path))[None]
    (expected,) = CheckpointOverlays(deployment.checkpoint).draw(images)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.body))), np.asarray(expected))


def test_evidence_of_what_is_no_picture(service):
    answer = service.post("/v1/evidence", b"no picture")
    assert (answer.status, answer.json["reason"]) == (415, "unknown-format")


def test_without_the_checkpoint_there_is_no_evidence_and_the_page_says_so(deployment, files, tmp_path):
    import shutil

    workdir = Workdir(tmp_path)
    for path in (deployment.graph(Precision.FP32), deployment.golden):
        shutil.copy(path, tmp_path / path.name)
    with run_service(workdir.path) as service:
        answer = service.post("/v1/evidence", files["fake"][0].read_bytes())
        assert (answer.status, answer.json["reason"]) == (404, "not-found")
        page = service.get("/").body.decode()
        assert "draws no evidence" in page
        assert "/v1/evidence" not in service.get("/openapi.json").json["paths"]
        assert service.post("/v1/verdict", files["fake"][0].read_bytes()).json["rows"][0]["verdict"] == "fake"


def test_only_the_pages_own_script_may_run(service):
    answer = service.get("/")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'sha256-" in policy
    assert "default-src 'none'" in policy
    assert "unsafe-inline'; img" in policy  # of styles alone
    assert page_headers("<script>1</script>") != page_headers("<script>2</script>")


def test_the_description_holds_for_the_answers(service, files):
    """Answers have the keys that are promised, and no reason that is not."""
    document = service.get("/openapi.json").json
    schemas = document["components"]["schemas"]
    good = service.post("/v1/verdict", files["fake"][0].read_bytes()).json
    bad = service.post("/v1/verdict", b"no picture").json
    for answer in (good, bad):
        assert set(schemas["Verdicts"]["required"]) <= set(answer) <= set(schemas["Verdicts"]["properties"])
        assert set(answer["rows"][0]) >= set(schemas["Row"]["required"])
        assert set(answer["engine"]) == set(schemas["Engine"]["properties"])
    assert bad["reason"] in schemas["Reason"]["enum"]
    assert schemas["Reason"]["enum"] == [str(reason) for reason in Reason]
    for path, methods in document["paths"].items():
        for method in methods:
            assert service.ask(method.upper(), path, b"").status not in (404, 405), path


def test_every_reference_in_the_description_leads_somewhere():
    document = describe_api(ServiceSettings(), evidence=True)
    text = json.dumps(document)
    for name in document["components"]["schemas"]:
        assert f"#/components/schemas/{name}" in text
    assert text.count("#/components/schemas/") == sum(
        text.count(f'"#/components/schemas/{name}"') for name in document["components"]["schemas"]
    )
    assert "openapi.json" in make_documentation(document)


def test_options_say_the_limits_that_hold():
    import click

    options = {option.name: option.default for option in commands.get_command(click.Context(commands), "serve").params}
    settings = ServiceSettings()
    assert (options["max_delay_ms"], options["max_queue"]) == (settings.max_delay_ms, settings.max_queue)
    assert options["host"] == "127.0.0.1"
