"""README, docs/ and CONTRIBUTING hold together: links lead somewhere, commands can be typed, tables are whole."""

import ast
import inspect
import re
import shlex
import tomllib

import click
import pytest
from documentation import GUIDES, PAGES, ROOT, find_code, find_headings, find_links, find_spans, find_tables, read_page

import lfm_deploy
from engines.gpus import parse_gpus
from lfm_deploy.cli import _COMMANDS, commands
from lfm_deploy.config import LFM
from lfm_deploy.quantisation import Budget

OURS = ("lfm_deploy/", "export/", "engines/", "calib/", "training/", "benchmarks/", "tests/", "docs/")
TEN_MINUTES = 10 * 200  # words that a person reads with attention
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def lines_of_code(page):
    return [line.strip() for block in find_code(page, "") for line in block.splitlines()]


def parse(words):
    """Read what is typed after ``lfm-deploy`` as the command does, and run nothing."""
    command = commands.get_command(click.Context(commands), words[0])
    assert command is not None, f"there is no command {words[0]!r}"
    values = command.make_context(words[0], words[1:]).params
    for name in ("limits", "budget") if words[0] in ("verify", "build") else ():
        Budget.parse(values.get(name) or "acc=0")
    if words[0] == "build":
        parse_gpus(values["gpus"] or "sm86")
        assert set((values["layers"] or "all").split(",")) <= {"all", "search", *LFM.layers}


def accepts(words):
    """Whether these options and values can be given; in a sentence, what else the command needs may be left out."""
    try:
        parse(words)
    except (click.MissingParameter, click.exceptions.Exit):  # the latter after --help
        return True
    except click.BadOptionUsage as error:
        return "requires an argument" in error.message
    except click.UsageError:
        return False
    return True


def find_mentions(page):
    """Commands in sentences: the text, and what may be typed after ``lfm-deploy``, one of which must be possible."""
    for span in find_spans(page):
        # An ellipsis is whatever one likes, and of alternatives the first will do.
        text = re.sub(r"\|\w+", "", span).removesuffix("…")
        if match := re.match(r"(?:lfm-deploy|torchrun .*-m lfm_deploy) (.+)", text):
            yield span, [shlex.split(match[1])]
        elif text.split()[0] in _COMMANDS and " --" in text:
            yield span, [shlex.split(text)]
        elif text.startswith("--"):
            yield span, [[name, *shlex.split(text)] for name in _COMMANDS]


@pytest.mark.parametrize("page", GUIDES)
def test_every_command_in_a_block_can_be_typed(page):
    for line in lines_of_code(page):
        if line.startswith("lfm-deploy"):
            parse(shlex.split(line)[1:])


@pytest.mark.parametrize("page", GUIDES)
def test_every_command_in_a_sentence_exists_with_its_options(page):
    for span, readings in find_mentions(page):
        assert any(accepts(words) for words in readings), span


@pytest.mark.parametrize("page", GUIDES)
def test_other_programs_are_there_too(page):
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    extras = PYPROJECT["project"]["optional-dependencies"]
    for line in lines_of_code(page) + find_spans(page):
        if line.startswith("make "):
            assert line.split()[1] in targets
        if line.startswith("pip install"):
            constraints, asked = re.fullmatch(r"pip install -c (\S+) '\.\[([a-z,]+)\]'", line).groups()
            assert (ROOT / constraints).is_file()
            assert set(asked.split(",")) <= extras.keys()
        if line.startswith("benchmarks/"):
            script, *rest = line.split()
            assert all(f'"{word}"' in (ROOT / script).read_text() for word in rest if word.startswith("--"))


@pytest.mark.parametrize("page", PAGES)
def test_every_file_of_ours_that_is_named_exists(page):
    named = [span.split()[0] for span in find_spans(page) if span.startswith(OURS)]
    for path in named:
        assert list(ROOT.glob(path)), f"{page} names {path}"


@pytest.mark.parametrize("page", GUIDES)
def test_every_call_in_a_sentence_can_be_made(page):
    for span in find_spans(page):
        match = re.fullmatch(r"(?:lfm_deploy\.)?(\w+)(\(.*\))?", span)
        if match is None or (match[2] is None and not span.startswith("lfm_deploy.")):
            continue
        function = getattr(lfm_deploy, match[1])
        if match[2] is not None:
            call = ast.parse(span, mode="eval").body
            keywords = {keyword.arg: ... for keyword in call.keywords}
            inspect.signature(function).bind(*call.args, **keywords)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for link in find_links(page):
        assert not link.startswith(("http", "/")), f"{page}: {link} is not relative"
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.is_file(), f"{page}: {link}"
        if anchor:
            name = target.resolve().relative_to(ROOT).as_posix()
            anchors = [heading.anchor for heading in find_headings(name)]
            assert anchors.count(anchor) == 1, f"{page}: {link}; there are {anchors}"


@pytest.mark.parametrize("page", PAGES)
def test_every_row_of_a_table_has_as_many_cells_as_its_heading(page):
    # Renderers drop a cell too many and leave one too few empty, without a word: a | in a cell is enough.
    wanted = None
    rows = 0
    for line in read_page(page).splitlines():
        if not line.startswith("|"):
            wanted = None
            continue
        cells = len(re.findall(r"(?<!\\)\|", line)) - 1
        wanted = wanted or cells
        assert cells == wanted, f"{page}: {line}"
        rows += 1
    tables = find_tables(page)
    assert sum(len(table) for table in tables) + len(tables) == rows  # a line under each heading is no row


def test_every_page_is_reached_from_readme_and_from_the_index():
    pages = {page for page in GUIDES if page.startswith("docs/")} - {"docs/README.md"}
    assert {link.partition("#")[0] for link in find_links("README.md")} >= pages
    assert {f"docs/{link.partition('#')[0]}" for link in find_links("docs/README.md")} >= pages


def test_every_command_stands_in_a_block_somewhere():
    # What stands only in a sentence is easily overlooked.
    lines = [line for page in GUIDES for line in lines_of_code(page)]
    assert {line.split()[1] for line in lines if line.startswith("lfm-deploy")} == _COMMANDS.keys() - {"demo"}
    assert "make demo" in lines  # which is how a newcomer runs it


def test_readme_takes_ten_minutes():
    assert len(read_page("README.md").split()) < TEN_MINUTES


def test_every_page_begins_with_the_question_that_it_answers():
    for page in GUIDES[1:]:
        title, blank, question = read_page(page).split("\n", 3)[:3]
        assert title.startswith("# ")
        assert blank == ""
        assert question.startswith("*") or page == "docs/README.md"


def test_contributing_says_what_every_folder_holds():
    found = {path.parent for depth in ("*/*.py", "lfm_deploy/*/*.py") for path in ROOT.glob(depth)}
    folders = {path for path in found if not path.name.startswith(".")} | {ROOT / "docs"}
    assert {ROOT / row[0].strip("`").removesuffix("*.py") for row in find_tables("CONTRIBUTING.md")[0][1:]} == folders
