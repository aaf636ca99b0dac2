import pytest

from lfm_deploy.errors import SuiteError
from lfm_deploy.suites import load_suites


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png", "c, d.png", "sub/e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"picture")
    return tmp_path


@pytest.fixture
def load(folder):
    def load(text, **options):
        content = text if isinstance(text, bytes) else text.encode()
        (folder / "mine.csv").write_bytes(content)
        (suite,) = load_suites(folder / "mine.csv", **options)
        return suite

    return load


def test_paths_are_relative_to_the_list_and_labels_are_words_or_numbers(load, folder):
    absolute = folder / "sub" / "e.png"
    suite = load(f'label,path\nreal,a.png\n1,b.png\n\nFAKE,"c, d.png"\n0,{absolute}\n')
    assert (suite.name, suite.size, [part.name for part in suite.sets]) == ("mine", 256, ["mine"])
    assert [(image.path, image.label) for image in suite.sets[0].images] == [
        (folder / "a.png", 0),
        (folder / "b.png", 1),
        (folder / "c, d.png", 1),
        (absolute, 0),
    ]


def test_sets_and_categories(load):
    suite = load("path,label,set,category\na.png,real,one,cat\nb.png,fake,one,dog\nsub/e.png,0,two,\n", size="native")
    assert suite.size == "native"
    assert [(part.name, part.categories) for part in suite.sets] == [("one", ("cat", "dog")), ("two", ())]


def test_a_byte_order_mark_and_windows_lines_are_no_fault(load):
    suite = load(b"\xef\xbb\xbfpath,label\r\na.png,real\r\nb.png,fake\r\n")
    assert len(suite.sets[0].images) == 2


HEAD = "path,label\na.png,real\nb.png,fake\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", r"mine\.csv: the list is empty; the header is path,label"),
        ("path,label\n", r"no picture in it; give each a line"),
        (HEAD + "gone.png,real\n", r"line 4: .*gone\.png: no such file; paths start at the folder of the list$"),
        (HEAD + "sub,real\n", r"line 4: .*sub: is a folder"),
        (HEAD + "sub/e.png,genuine\n", r"line 4: label 'genuine'; expected real or fake, or 0 or 1$"),
        (HEAD + "./a.png,fake\n", r"line 4: .*a\.png stands in line 2 already; remove one$"),
        (HEAD + ",real\n", r"line 4: no path"),
        (HEAD + "x" * 5000 + ",real\n", r"line 4: .*x: File name too long; mend the path"),
        (HEAD + "c, d.png,real\n", r"line 4: 3 fields, expected 2 as in the header; put names with commas into quotes"),
        (HEAD + "x.png,real\ny.png,2\n", r"line 4: .*x\.png: no such file.* \(1 more bad line\)$"),
        (HEAD + "x,real\ny,2\nz\n", r"line 4: .* \(2 more bad lines\)$"),
        ("path,kind\na.png,real\n", r"line 1: missing column 'label'; the header is path,label and optionally"),
        ("a.png,real\nb.png,fake\n", r"line 1: missing column 'path', 'label'"),
        ("path,label,generator\n", r"line 1: unknown column 'generator'"),
        ("path,label,label\n", r"line 1: column given twice: 'label'"),
        ("path,label,set\na.png,real,\n", r"line 2: no test set; name one in every line"),
        (HEAD.encode() + b"caf\xe9.png,real\n", r"line 4: not UTF-8; save the list as UTF-8"),
        (HEAD + '"sub/e.png,real\n', r"line 4: not CSV"),
        ("path,label\na.png,real\n", r"no test set has pictures of both classes"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_number(load, text, complaint):
    with pytest.raises(SuiteError, match=complaint) as caught:
        load(text)
    assert "\n" not in str(caught.value)


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(SuiteError, match=r"none\.csv: cannot be read: No such file"):
        load_suites(tmp_path / "none.csv")


def test_a_line_break_inside_quotes_does_not_shift_the_numbers(load, folder):
    (folder / "two\nlines.png").write_bytes(b"picture")
    with pytest.raises(SuiteError, match="line 4: label 'x'"):
        load('path,label\n"two\nlines.png",real\na.png,x\n')


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_as_editors_save_them(tmp_path, encoding):
    for name in ("é.png", "b.png"):
        (tmp_path / name).touch()
    path = tmp_path / "mine.csv"
    path.write_text("path,label\né.png,real\nb.png,fake\n", encoding=encoding)
    (part,) = load_suites(path)[0].sets
    assert [image.path.name for image in part.images] == ["é.png", "b.png"]


@pytest.mark.parametrize(
    "row", ["x" * 5000 + ",real", "a\0b,real", "x" * 200_000 + ",real", "/root/" + "y/" * 3000 + ",fake"], ids=range(4)
)
def test_paths_that_cannot_be_are_one_line(tmp_path, row):
    path = tmp_path / "mine.csv"
    path.write_text(f"path,label\n{row}\n")
    with pytest.raises(SuiteError, match=r"mine\.csv: line 2") as caught:
        load_suites(path)[0]
    assert "\n" not in str(caught.value)
