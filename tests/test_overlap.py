import os

import pytest

from lfm_deploy.errors import InputError
from lfm_deploy.storage.overlap import is_same, lies_in, refuse_input


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("a")
    (tmp_path / "linked").symlink_to("in")
    (tmp_path / "link").symlink_to("in/a")
    os.link(tmp_path / "in" / "a", tmp_path / "hard")
    (tmp_path / "circle").symlink_to("circle")
    return tmp_path


@pytest.mark.parametrize("way", ["in/a", "in/../in/a", "linked/a", "link", "hard", "./linked/../in/a"])
def test_every_way_to_a_file_is_that_file(folder, way):
    assert is_same(folder / way, folder / "in" / "a")
    with pytest.raises(InputError, match=r"--output: .* would be written, and is one of the inputs \(.*in/a\)"):
        refuse_input("--output", [folder / "other", folder / way], [folder / "in" / "a"])


@pytest.mark.parametrize("way", ["in", "other", "circle", "in/b", "\0"])
def test_other_files(folder, way):
    assert not is_same(folder / way, folder / "in" / "a")
    refuse_input("--output", [folder / way], [folder / "in" / "a"])


def test_what_is_not_there_yet_has_a_place(folder):
    assert is_same(folder / "linked" / "new", folder / "in" / "new")


@pytest.mark.parametrize(
    ("way", "inside"), [("in/new/deep", True), ("linked", True), ("in/../other", False), ("", False)]
)
def test_folders(folder, way, inside):
    assert lies_in(folder / way, folder / "in") is inside
