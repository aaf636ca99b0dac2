import copy
import re

import pytest
from markdown_it import MarkdownIt
from sample_report import NASTY, make_sample

from lfm_deploy.report.markdown import make_markdown
from lfm_deploy.report.markdown_parts import escape


@pytest.fixture(scope="module")
def report():
    return make_sample(per_class=8)[0]


def parse(text):
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)


def tables(text):
    """Every table as rows of cells, and what its cells hold, by a parser that is not ours."""
    found, inside = [], False
    for token in parse(text):
        if token.type in ("table_open", "table_close"):
            inside = token.type == "table_open"
            found += [[]] if inside else []
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and inside:
            found[-1][-1].append(token)
    return found


def shown(token):
    """What a reader sees of an inline token; HTML in it by its tags."""
    return "".join(child.content for child in token.children if child.type in ("text", "text_special", "html_inline"))


def test_every_table_is_one_with_rows_of_equal_length(report):
    found = tables(make_markdown(report))
    # Two suites, gates, flips, published, envelope, aligned fakes, cards, kernels, confounders, fingerprints.
    assert len(found) == 11
    for table in found:
        assert len({len(row) for row in table}) == 1
        assert len(table) >= 2


def test_the_verdict_comes_first(report):
    first, heading = parse(make_markdown(report))[:2]
    assert (first.type, first.tag) == ("heading_open", "h2")
    assert shown(heading) == f"❌ {report['verdict']['text']}"


def test_engines_have_intervals_flips_and_outcomes(report):
    table = tables(make_markdown(report))[0]
    rows = {shown(row[0]): [shown(cell) for cell in row] for row in table[1:]}
    mean = report["engines"][0]["suites"][0]["mean"]["acc"]
    assert rows["pytorch fp32"][2] == f"{mean['value']:.1f} [{mean['low']:.1f}, {mean['high']:.1f}]"
    assert rows["onnxruntime int8 tensorrt"][1] in ("fails", "undecided")
    assert rows["onnxruntime fp32"][4] == "0"
    assert "NPR &lt;foreign&gt;" in make_markdown(report)


def test_gates_that_do_not_hold_say_what_they_need(report):
    (table,) = [table for table in tables(make_markdown(report)) if "outcome" in [shown(cell) for cell in table[0]]]
    assert {shown(row[3]) for row in table[1:]} == {"fails", "undecided"}
    assert any(shown(row[-1]) == "need ≥ 12,000 pictures" for row in table[1:])


def test_published_figures_and_the_difference_are_there(report):
    text = make_markdown(report)
    assert "Δ to the published LFM" in text
    assert "Frank, ldm: the figure is not legible in the source" in text
    assert "onnxruntime fp16 (yours)" not in text  # the page has every engine


NAMES = [NASTY, "a|b", "`x`", "<img src=x onerror=alert(1)>", "[a](b)", "*_~~x~~_*", r"a\|b", "$x$", "&lt;", "www.a.b"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_stays_text_in_a_table(report, name):
    report = copy.deepcopy(report)
    flip = {"set": "s", "path": name, "label": 0, "reference": -99.0, "logit": 1.0, "margin": -99.0}
    report["engines"][3]["suites"][0]["against"]["flipped"].append(flip)
    (table,) = [table for table in tables(make_markdown(report)) if shown(table[0][0]) == "picture"]
    cell = table[1][0]
    assert [child.content for child in cell.children if child.type == "html_inline"] == ["<code>", "</code>"]
    assert {child.type for child in cell.children} <= {"text", "text_special", "html_inline"}
    assert shown(cell) == f"<code>{' '.join(name.split())}</code>"
    assert len({len(row) for row in table}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_escaped_text_is_that_text(name):
    (_, inline, _) = parse(f"x {escape(name)}")
    assert shown(inline) == f"x {' '.join(name.split())}"


def test_addresses_are_not_linked_by_github():
    # GitHub's extension looks for these in the source, and an entity hides them from it.
    assert not re.search(r"https?://|www\.", escape("https://a.b and www.a.b"))


def test_long_lists_say_how_many_more_there_are(report):
    report = copy.deepcopy(report)
    report["skipped"] = [{"path": f"{index}.png", "reason": "the file is empty"} for index in range(14)]
    text = make_markdown(report)
    assert "14 pictures could not be judged" in text
    assert "… and 4 more, all in report.json." in text


def test_the_environment_is_folded_with_the_command(report):
    folded = make_markdown(report).split("<details><summary>Environment")[1]
    fences = [token.content for token in parse(folded) if token.type == "fence"]
    assert fences == ["lfm-deploy verify --suite diffusion --data '/data/my pictures' --envelope\n"]
    assert report["engines"][0]["sha256"] in folded


def test_a_command_with_backticks_does_not_leave_its_fence(report):
    command = ["lfm-deploy", "verify", "--suite", "``` <b>"]
    text = make_markdown(report | {"made": report["made"] | {"command": command}})
    assert [token.content for token in parse(text) if token.type == "fence"] == [
        "lfm-deploy verify --suite '``` <b>'\n"
    ]


def test_nothing_verified_is_said_without_tables_of_nothing(report):
    report = copy.deepcopy(report)
    engine = report["engines"][-1]
    report |= {"engines": [engine], "envelope": None, "skipped": []}
    report["aligned"] = None
    report["suites"] = [suite | {"published": None, "confounders": []} for suite in report["suites"]]
    report["verdict"] |= {"outcome": "nothing", "text": "NOTHING VERIFIED"}
    text = make_markdown(report)
    assert text.startswith("## ❌ NOTHING VERIFIED\n\n**Not run**: tensorrt-rtx fp16 sm86 (no CUDA device)\n")
    assert len(tables(text)) == 3  # cards, kernels, fingerprints
