"""Docstrings that can be read alone: each entry begins with its noun, and the public interface leaves none out."""

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import lfm_deploy

_ROOT = Path(__file__).resolve().parents[1]
_FOLDERS = ("lfm_deploy", "calib", "engines", "export", "training")
_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")
# Words that continue another sentence (of, as), stand for a noun elsewhere (it, those) or are a verb without one.
_FRAGMENT = {
    *("of", "as", "likewise", "from", "in", "on", "at", "by", "for", "with", "over", "to", "into", "after", "per"),
    *("it", "its", "they", "their", "that", "those", "these", "this", "both", "also", "same", "such", "there"),
    *("what", "how", "where", "why", "when", "who", "whose", "which", "under", "without"),
    *("takes", "take", "holds", "called", "asked", "let", "gives", "given", "waits", "uses", "starts"),
    *("stays", "taken", "made", "is", "are", "was", "has", "can", "may", "naming", "stands", "seeds", "above"),
    *("puts", "queues", "capture", "keep", "add", "between", "not", "whatever", "begin", "judge", "read", "everything"),
    *("seen", "about", "flat", "computes", "all", "own", "one's", "each", "draw", "also"),
}
# A reason may open with a clause ("there is no such recipe"), but with nothing that stands for a noun elsewhere.
_FRAGMENT_REASON = {
    *("of", "as", "likewise", "from", "by", "for", "with", "to", "into", "after", "naming", "when", "where", "if"),
    *("it", "its", "they", "their", "that", "those", "these", "this", "both", "same", "one", "another", "none"),
    *("not", "more", "also", "likewise"),
}
_DTYPE = re.compile(r"\b(u?int(8|16|32|64)|float(16|32|64)|bool|integers?|floats?|dtype)\b")
_SHAPE = re.compile(r"``\([^`]*,[^`]*\)``")


@dataclass(frozen=True)
class Entry:
    """One line of a docstring's section, with its continuation lines.

    Attributes:
        file: path of the module below the repository's root.
        owner: qualified name of the function or class; empty for a module.
        section: heading above the entry, such as ``"Args"``.
        names: text before the colon; empty under Returns and Yields.
        text: text after the colon, on one line.
    """

    file: str
    owner: str
    section: str
    names: str
    text: str


def read_entries(docstring: str, file: str = "", owner: str = "") -> list[Entry]:
    """Every entry of the Google-style sections of a docstring."""
    entries: list[Entry] = []
    section = ""
    for line in docstring.split("\n"):
        if heading := _SECTION.fullmatch(line):
            section = heading[1]
        elif line and not line.startswith(" "):
            section = ""
        elif section and (re.match(r"    \S", line) or line.strip()):
            entries = _add_line(entries, line, Entry(file, owner, section, "", ""))
    return entries


def _add_line(entries: list[Entry], line: str, blank: Entry) -> list[Entry]:
    last = entries[-1] if entries and entries[-1].section == blank.section else None
    indented = line.startswith("     ")
    if last and (indented or blank.section in ("Returns", "Yields")):
        joined = Entry(last.file, last.owner, last.section, last.names, f"{last.text} {line.strip()}")
        return [*entries[:-1], joined]
    if blank.section in ("Returns", "Yields"):
        return [*entries, Entry(blank.file, blank.owner, blank.section, "", line.strip())]
    names, _, text = line.strip().partition(": ")
    return [*entries, Entry(blank.file, blank.owner, blank.section, names, text)]


def is_fragment(entry: Entry) -> bool:
    """Whether an entry needs its neighbours, or another docstring, to be understood."""
    words = re.sub(r"^(an?|the) ", "", entry.text).split()
    if not words:
        return True
    word = words[0].strip(".,;:").lower()
    if entry.section in ("Args", "Attributes"):
        return word in _FRAGMENT or word.isdigit()
    return entry.section == "Raises" and word in _FRAGMENT_REASON


@functools.cache
def _modules() -> list[tuple[str, ast.Module]]:
    paths = [path for folder in _FOLDERS for path in sorted((_ROOT / folder).rglob("*.py"))]
    return [(path.relative_to(_ROOT).as_posix(), ast.parse(path.read_text())) for path in paths]


def _definitions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name, child
            yield from _definitions(child, f"{prefix}{child.name}.")
        elif not isinstance(child, ast.expr):
            yield from _definitions(child, prefix)


def _all_entries() -> list[Entry]:
    found: list[Entry] = []
    for file, tree in _modules():
        for owner, node in [("", tree), *_definitions(tree)]:
            docstring = ast.get_docstring(node)  # type: ignore[arg-type]  # one of the kinds that have one
            found += read_entries(docstring or "", file, owner)
    return found


def _parameters(node: ast.FunctionDef) -> dict[str, str]:
    named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return {a.arg: ast.unparse(a.annotation) if a.annotation else "" for a in named if a.arg not in ("self", "cls")}


def _texts(node: ast.AST, *sections: str) -> dict[str, str]:
    """Texts of a docstring's entries by name; an entry of several names counts for each."""
    entries = read_entries(ast.get_docstring(node) or "")  # type: ignore[arg-type]  # one of the kinds that have one
    chosen = [entry for entry in entries if entry.section in sections]
    return {name.strip(): entry.text for entry in chosen for name in entry.names.split(",")}


def _gaps(owner: str, node: ast.AST) -> list[str]:
    """Whatever a definition leaves out: parameters and fields without an entry, arrays without dtype or shape."""
    if isinstance(node, ast.ClassDef):
        annotated = [line.target for line in node.body if isinstance(line, ast.AnnAssign)]
        fields = [target.id for target in annotated if isinstance(target, ast.Name) and target.id[0] != "_"]
        told = _texts(node, "Attributes", "Args")
        return [f"{owner}: the attribute {name} has no entry" for name in fields if name not in told]
    assert isinstance(node, ast.FunctionDef)
    told = _texts(node, "Args")
    gaps = [f"{owner}: the parameter {name} has no entry" for name in _parameters(node) if name not in told]
    return gaps + _vague_arrays(owner, node)


def _vague_arrays(owner: str, node: ast.FunctionDef) -> list[str]:
    told = _texts(node, "Args")
    arrays = {name: told.get(name, "") for name, kind in _parameters(node).items() if "NDArray" in kind}
    if node.returns and "NDArray" in ast.unparse(node.returns):
        docstring = ast.get_docstring(node) or ""
        prose, returns = docstring.split("Args:")[0], docstring.partition("Returns:")[2]
        arrays["the result"] = prose + returns
    return [
        f"{owner}: {name} needs a dtype and a shape, such as 'uint8 ``(N, H, W, 3)``': {text.strip()!r}"
        for name, text in arrays.items()
        if not (_DTYPE.search(text) and _SHAPE.search(text))
    ]


def _public(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Public definitions of a module, without functions inside functions."""
    found = dict(_definitions(tree))
    for owner, node in found.items():
        parent = found.get(owner.rpartition(".")[0])
        hidden = any(part.startswith("_") and part != "__init__" for part in owner.split("."))
        if not hidden and not isinstance(parent, ast.FunctionDef):
            yield owner, node


def _offered(file: str, owner: str) -> bool:
    """Whether ``lfm_deploy`` offers this class or function, or the class that this is a method of."""
    name = owner.split(".")[0]
    module = getattr(lfm_deploy, name).__module__ if name in lfm_deploy.__all__ else ""
    return file == f"{module.replace('.', '/')}.py"


def _example(text: str) -> ast.AST:
    return ast.parse(text).body[0]


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ("Args", "of the file."),
        ("Args", "as of ``open_judge``."),
        ("Args", "likewise."),
        ("Args", "the same of one class."),
        ("Args", "what to read."),
        ("Args", "0 is real, 1 is fake."),
        ("Args", "takes lines for people."),
        ("Attributes", "its arithmetic."),
        ("Raises", "as of ``load_folders``."),
        ("Raises", "it is damaged."),
        ("Raises", "naming what to do instead."),
    ],
)
def test_a_fragment_is_found(section, text):
    assert is_fragment(Entry("", "", section, "name", text))


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ("Args", "path of the file."),
        ("Args", "whether the graph gives evidence."),
        ("Args", "the seed of the draw."),
        ("Args", '``"cpu"`` or ``"cuda"``.'),
        ("Raises", "lengths differ, or there is no fake to find."),
        ("Raises", "there is no such recipe."),
        ("Returns", "None where there is none."),
    ],
)
def test_a_whole_entry_passes(section, text):
    assert not is_fragment(Entry("", "", section, "name", text))


def test_entries_are_read_with_their_continuation_lines():
    arguments = "Args:\n    a, b: the first\n        and the second.\n    c: d."
    docstring = f"Do it.\n\n{arguments}\n\nReturns:\n    One\n    two.\n\nEnd."
    found = [(entry.section, entry.names, entry.text) for entry in read_entries(docstring)]
    assert found == [("Args", "a, b", "the first and the second."), ("Args", "c", "d."), ("Returns", "", "One two.")]


def test_gaps_are_found():
    function = _example(
        "def f(a: NDArray[np.uint8], b: int) -> NDArray[np.float32]:\n"
        '    """Do.\n\n    Args:\n        a: pictures ``(N, H, W, 3)``.\n    """'
    )
    assert [gap.split(" needs")[0] for gap in _gaps("f", function)] == [
        "f: the parameter b has no entry",
        "f: a",
        "f: the result",
    ]
    fields = _example('class C:\n    """Hold.\n\n    Attributes:\n        a: number.\n    """\n    a: int\n    b: int')
    assert _gaps("C", fields) == ["C: the attribute b has no entry"]


def test_entries_stand_alone():
    entries = _all_entries()
    assert len(entries) > 1000
    fragments = [
        f"{entry.file}: {entry.owner}: {entry.section}: {entry.names}: {entry.text}"
        for entry in entries
        if is_fragment(entry)
    ]
    assert not fragments, "these entries cannot be read alone:\n" + "\n".join(fragments)


def test_what_the_package_offers_leaves_nothing_out():
    offered = [
        (file, owner, node) for file, tree in _modules() for owner, node in _public(tree) if _offered(file, owner)
    ]
    assert {owner for _, owner, _ in offered} >= set(lfm_deploy._WHERE)
    gaps = [f"{file}: {gap}" for file, owner, node in offered for gap in _gaps(owner, node)]
    assert not gaps, "\n".join(gaps)


def test_engines_give_dtype_and_shape_of_every_array():
    gaps = [
        f"{file}: {gap}"
        for file, tree in _modules()
        if file.startswith("engines/")
        for owner, node in _public(tree)
        if isinstance(node, ast.FunctionDef)
        for gap in _vague_arrays(owner, node)
    ]
    assert not gaps, "\n".join(gaps)


def test_every_module_opens_with_a_sentence():
    openings = {file: (ast.get_docstring(tree) or "").partition("\n")[0] for file, tree in _modules()}
    assert not [file for file, line in openings.items() if not (line.endswith(".") and len(line.split()) > 2)]
