import os
import subprocess
import sys

import pytest

from lfm_deploy.errors import ImageError, InputError
from lfm_deploy.pictures.folders import walk_images
from lfm_deploy.pictures.sources import find_sources


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = (
        "b.PNG",
        "a.jpeg",
        "a/z.png",
        "a/b/c.webp",
        "a.b/x.png",
        "notes.txt",
        ".hidden.png",
        ".cache/d.png",
        "Z/1.tif",
    )
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(*arguments, lists=()):
    return [source.name for source in find_sources(arguments, lists)]


def test_a_folder_is_walked_in_the_order_of_sorted_paths(tree):
    found = [path for path in tree.rglob("*") if path.suffix.lower() in (".png", ".jpeg", ".webp", ".tif")]
    shown = sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(tree).parts))
    assert list(walk_images(tree)) == shown
    assert len(shown) == 6
    assert names(".") == [str(path.relative_to(tree)) for path in shown]


def test_a_deep_folder_is_no_trouble(tmp_path):
    folder = tmp_path
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        os.fchdir(here)
        for _ in range(sys.getrecursionlimit() // 2 + 100):
            folder /= "d"
        folder.mkdir(parents=True)
        (folder / "x.png").touch()
    finally:
        os.close(here)
    assert list(walk_images(tmp_path)) == [folder / "x.png"]
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # pytest could not, when it clears its folders


def test_links_to_folders_are_not_followed_and_links_to_files_are(tree):
    (tree / "loop").symlink_to(tree)
    (tree / "folder.png").symlink_to(tree / "a")
    (tree / "link.png").symlink_to(tree / "b.PNG")
    assert names(".") == ["Z/1.tif", "a/b/c.webp", "a/z.png", "a.b/x.png", "a.jpeg", "b.PNG", "link.png"]


def test_folders_are_listed_when_their_turn_comes(tree):
    walk = find_sources(["Z", "a"])
    assert next(walk).name == "Z/1.tif"
    (tree / "a" / "late.png").touch()
    assert "a/late.png" in [source.name for source in walk]


def test_files_come_as_they_are_named(tree):
    assert names("b.PNG", "notes.txt", "a.jpeg", "b.PNG", "missing.png") == [
        "b.PNG",
        "notes.txt",
        "a.jpeg",
        "b.PNG",
        "missing.png",
    ]


def test_patterns(tree):
    assert names("*.jpeg") == ["a.jpeg"]
    assert names("**/*.png") == ["a/z.png", "a.b/x.png"] or names("**/*.png") == ["a.b/x.png", "a/z.png"]
    assert names("*") == ["a.jpeg", "b.PNG"]  # neither folders nor other files
    (tree / "x[1].png").touch()
    assert names("x[1].png") == ["x[1].png"]  # what is there is no pattern
    (nothing,) = list(find_sources(["b.PNG", "q*.png"]))[1:]
    with pytest.raises(ImageError, match="no picture or shard matches"):
        nothing.load()


def test_lists_of_files_and_folders(tree):
    (tree / "list.txt").write_bytes(b"b.PNG\r\n\na\nmissing.png\nb.PNG")
    expected = ["b.PNG", "a/b/c.webp", "a/z.png", "missing.png", "b.PNG"]
    assert names("@list.txt") == expected
    assert names("a.jpeg", lists=["list.txt"]) == ["a.jpeg", *expected]
    (tree / "@list.txt").touch()
    assert names("@list.txt") == ["@list.txt"]  # what is there is no list


def test_standard_input_is_read_as_it_comes(tree, monkeypatch):
    readable, writable = os.pipe()
    before = os.dup(0)
    os.dup2(readable, 0)
    try:
        os.write(writable, b"b.PNG\nno")
        walk = find_sources(["-"])
        assert next(walk).name == "b.PNG"
        os.write(writable, b"ne.png\n")
        assert next(walk).name == "none.png"
        os.close(writable)
        assert list(walk) == []
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(readable)


def test_a_long_list_is_read_in_parts(tree):
    (tree / "long.txt").write_text("".join(f"{index:06}.png\n" for index in range(20_000)))
    found = names("@long.txt")
    assert (len(found), found[0], found[-1]) == (20_000, "000000.png", "019999.png")


def test_names_that_are_not_utf8_come_through(tree):
    raw = os.fsencode(tree) + b"/caf\xe9.png"
    with open(raw, "wb"):  # noqa: PTH123  # a path that no str literal spells
        pass
    assert [os.fsencode(name) for name in names(str(tree)) if "caf" in name] == [raw]


def test_what_is_not_there_at_all(tree):
    for arguments in (["none.png"], ["none", "no*.png"]):
        with pytest.raises(InputError, match="no such file or folder"):
            find_sources(arguments)
    for arguments, lists in ((["@none.txt"], []), ([], ["none.txt"])):
        with pytest.raises(InputError, match=r"none.txt: no such list"):
            find_sources(arguments, lists)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_says_so(tree):
    (tree / "a").chmod(0)
    (source,) = [source for source in find_sources(["."]) if source.name == "a"]
    with pytest.raises(ImageError, match="cannot be listed: Permission denied"):
        source.load()


@pytest.mark.parametrize("links", [["loop"], ["loop", "again"]])
def test_stars_go_through_no_links_in_a_circle(tree, links):
    """One loop gave each picture forty times; two never ended."""
    for name in links:
        (tree / "a" / name).symlink_to(tree)
    assert names("**/*.png") == ["a.b/x.png", "a/z.png"]
    assert names("**/*.webp") == ["a/b/c.webp"]
    assert names("a/**") == ["a/b/c.webp", "a/z.png"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom", "utf-16-be-bom"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lists_as_editors_save_them(tree, encoding, newline):
    text = newline.join(["b.PNG", "a/grün.png", "a.jpeg"]) + newline
    if encoding.endswith("bom"):
        content = text.encode(encoding.removesuffix("-bom"))
        content = (b"\xff\xfe" if "le" in encoding else b"\xfe\xff") + content
    else:
        content = text.encode(encoding)
    (tree / "list.txt").write_bytes(content)
    assert names("@list.txt") == ["b.PNG", "a/grün.png", "a.jpeg"]


def test_a_list_of_half_a_character_is_an_error(tree):
    (tree / "list.txt").write_bytes("b.PNG\n".encode("utf-16") + b"\0")
    with pytest.raises(InputError, match=r"list.txt: its byte order mark promises utf-16"):
        names("@list.txt")


def test_names_that_no_file_can_have_cost_their_own_row(tree):
    (tree / "list.txt").write_bytes(b"x" * 5000 + b"\n" + b"a\0b\n" + b"b.PNG\n")
    assert names("@list.txt") == ["x" * 5000, "a\0b", "b.PNG"]
    with pytest.raises(InputError, match="no such file or folder"):
        find_sources(["y" * 5000])
