import copy
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sample_report import NASTY, NOT_RUN, make_sample

from lfm_deploy.report.page import make_page
from lfm_deploy.report.thumbnails import Thumbnail

# One white and one black pixel are enough to be drawn.
DOT = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
SECTIONS = ["engines", "gates", "sets", "published", "curves", "histograms", "scatters", "speed", "kernels", "envelope"]
SECTIONS += ["aligned", "flips", "errors", "int8", "data", "repeat"]


@pytest.fixture(scope="module")
def sample():
    report, rows = make_sample(per_class=12)
    shown = {row["path"]: Thumbnail(picture=DOT, overlay=DOT) for row in rows[::2]}
    shown |= {row["path"]: Thumbnail(note="cannot be shown: no such file") for row in rows[1::2]}
    return report, rows, shown


@pytest.fixture(scope="module")
def small():
    """A report with one suite, two engines and no plots of INT8, for tests that make several pages."""
    report, rows = make_sample(per_class=6)
    report["engines"] = report["engines"][:1] + report["engines"][4:5]
    for engine in report["engines"]:
        engine["suites"] = engine["suites"][1:]
        engine["gates"] = [gate for gate in engine["gates"] if gate["suite"] == "mine"]
    report |= {"suites": report["suites"][1:], "quantisation": {}, "envelope": None, "aligned": None}
    names = {engine["name"] for engine in report["engines"]}
    return report, [row for row in rows if row["suite"] == "mine" and row["engine"] in names]


class Parser(HTMLParser):
    """Tags that are open at the end, tags, ids and text seen, and addresses that a browser would load."""

    EMPTY = ("meta", "br", "link", "img")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.loads, self.text, self.ids, self.points = [], [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.loads += [values[name] for name in ("src", "href", "xlink:href") if name in values]
        self.ids += [values["id"]] if "id" in values else []
        self.points += re.findall(r"url\(#([^)]+)\)", " ".join(str(value) for value in values.values()))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def content(sample):
    return make_page(*sample)


@pytest.fixture(scope="module")
def page(content):
    return Parser(content)


def test_it_is_whole_and_needs_nothing_else(page):
    assert page.open == []
    assert page.tags[:2] == ["html", "head"]
    assert all(address.startswith(("#", "data:image/")) for address in page.loads)
    assert not {"script", "link", "iframe"} & set(page.tags)


def test_identifiers_are_unique_and_lead_somewhere(page):
    assert len(page.ids) == len(set(page.ids))
    assert {address[1:] for address in page.loads if address.startswith("#")} <= set(page.ids)
    assert set(page.points) <= set(page.ids)
    assert page.points  # plots clip their curves


def test_every_section_is_there_and_in_the_contents(page):
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    assert [address for address in page.loads if address[1:] in SECTIONS] == [f"#{name}" for name in SECTIONS]


def test_the_verdict_comes_first(page, sample):
    words = page.words.split("Do all engines make the checkpoint's decisions? ")[1]
    assert words.startswith(sample[0]["verdict"]["text"].replace(": ", " ", 1))
    head = words.split("Engines ")[0]
    assert f"Not run : {NOT_RUN} (no CUDA device)" in head
    assert "Advice for onnxruntime on cpu: INT8 broke a gate: ship FP16" in head
    for figure in ("Accuracy", "Average precision", "Decisions that changed", "Fastest that holds its gates"):
        assert figure in head


def test_figures_have_their_intervals_and_undecided_gates_what_they_need(page, sample):
    mean = sample[0]["engines"][0]["suites"][0]["mean"]["acc"]
    assert f"{mean['value']:.1f} {mean['low']:.1f} to {mean['high']:.1f}" in page.words
    assert "need ≥ 12,000 pictures" in page.words


def test_published_figures_stand_beside_yours(page):
    words = page.words
    assert "Frank, ldm: the figure is not legible in the source" in words
    assert words.index("LFM published") < words.index("pytorch fp32 yours")
    assert re.search("pytorch fp32 yours( [0-9.]+ [+\N{MINUS SIGN}][0-9]+[.][0-9])+", words)


def test_pictures_are_shown_or_it_is_said_why_not(page):
    assert page.loads.count(DOT) >= 4
    assert "cannot be shown: no such file" in page.words


def test_names_of_files_and_engines_stay_text(page):
    assert any(NASTY in text for text in page.text)
    assert "NPR <foreign>" in page.words
    assert "portal <b>uploads</b>" in page.words
    assert "b" not in page.tags


def test_the_command_can_be_pasted(page):
    assert "lfm-deploy verify --suite diffusion --data '/data/my pictures' --envelope" in page.text


def test_the_same_report_gives_the_same_page(small):
    assert make_page(*copy.deepcopy(small)) == make_page(*small)


def test_long_lists_say_how_many_more_there_are(small):
    report, rows = copy.deepcopy(small)
    report["skipped"] = [{"path": f"{index}.png", "reason": "the file is empty"} for index in range(60)]
    flipped = report["engines"][1]["suites"][0]["against"]["flipped"]
    flip = {"set": "archive", "label": 0, "reference": -0.1, "logit": 0.1, "margin": -0.1}
    flipped[:] = [flip | {"path": f"flip {index}.png"} for index in range(30)]
    words = Parser(make_page(report, rows)).words
    assert "60 pictures could not be judged" in words
    assert "… and 10 more, all in report.json." in words
    assert "… and 6 more, all of them in report.json." in words


def test_a_page_without_any_engine_says_so(small):
    report, _ = copy.deepcopy(small)
    report["engines"] = [report["engines"][1] | {"not_run": "no CUDA device", "suites": [], "gates": [], "speeds": []}]
    report["verdict"] |= {"outcome": "nothing", "text": "NOTHING VERIFIED on CPU: no engine could run"}
    page = Parser(make_page(report, []))
    assert "NOTHING VERIFIED on CPU no engine could run" in page.words
    assert [name for name in page.ids if name in SECTIONS] == ["flips", "data", "repeat"]


@pytest.fixture(scope="module")
def opened(browser, content, tmp_path_factory):
    """The page, opened from the disk without a network, and what the browser complained of."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(content, encoding="utf-8")
    context = browser.new_context(offline=True)
    tab = context.new_page()
    complaints = []
    tab.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    tab.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    tab.on("request", lambda request: complaints.append(f"request: {request.url}") if foreign(request, path) else None)
    tab.goto(path.as_uri())
    yield tab, complaints
    context.close()


def foreign(request, path):
    return request.url != path.as_uri() and not request.url.startswith("data:")


def test_a_browser_opens_it_without_complaint_or_request(opened):
    tab, complaints = opened
    tab.wait_for_load_state()
    assert complaints == []
    assert tab.locator("section").count() == len(SECTIONS)
    assert all(tab.locator(f"section#{name}").is_visible() for name in SECTIONS)
    assert tab.title().startswith("FAILED on CPU")


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_runs_over_the_edge(opened, width):
    tab, _ = opened
    tab.set_viewport_size({"width": width, "height": 900})
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    # And what is wider than its column can be scrolled there.
    assert tab.evaluate("[...document.querySelectorAll('main > section')].every(s => s.scrollWidth <= s.clientWidth)")


def luminance(colour):
    """Relative luminance as WCAG 2 defines it, of ``rgb(r, g, b)``."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(opened, scheme):
    tab, _ = opened
    tab.emulate_media(color_scheme=scheme)
    found = tab.evaluate("""() => {
        const behind = element => {
            const colour = getComputedStyle(element).backgroundColor
            return colour != 'rgba(0, 0, 0, 0)' ? colour : behind(element.parentElement)
        }
        const wanted = 'h1, h2, p, td, th, small, caption, a, summary, code, .outcome, .path, .missing, svg text'
        return [...document.querySelectorAll(wanted)].map(element => {
            const style = getComputedStyle(element)
            return [element instanceof SVGElement ? style.fill : style.color, behind(element)]
        })
    }""")
    pairs = {tuple(pair) for pair in found}
    assert len(pairs) >= 6
    for ink, page in pairs:
        light, dark = sorted((luminance(ink), luminance(page)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, page)  # WCAG 2, level AA, for text of any size
    assert {luminance(page) > 0.5 for _, page in pairs} == {scheme == "light"}
    tab.emulate_media(color_scheme=None)


def test_it_can_be_printed(opened):
    tab, _ = opened
    tab.emulate_media(color_scheme="dark")
    content = tab.pdf(format="A4")
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 3
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not tab.locator("nav").is_visible()
    tab.set_viewport_size({"width": 1030, "height": 700})  # A4 across without its margins, at 96 pixels an inch
    assert tab.evaluate("document.documentElement.scrollWidth") == 1030
    tab.emulate_media(media=None, color_scheme=None)


def test_the_template_is_in_parts_that_can_be_read():
    folder = Path(make_page.__code__.co_filename).parent / "templates"
    assert all(len(path.read_text().splitlines()) <= 150 for path in folder.iterdir())
