import os

import pytest

from lfm_deploy.errors import InputError
from lfm_deploy.pictures.folders import is_folder, walk_folder, walk_images
from lfm_deploy.pictures.left_out import LeftOut


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_link_to_itself_costs_its_own_row(tmp_path):
    """It cost the whole folder, with exit code 0."""
    fill(tmp_path, "a.png", "z/b.png")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "folder-like").symlink_to("folder-like")
    (tmp_path / "nowhere.png").symlink_to("missing.png")
    found = dict(walk_folder(tmp_path))
    assert list(found) == [tmp_path / name for name in ("a.png", "nowhere.png", "self.jpg", "z/b.png")]
    assert {path.name: reason for path, reason in found.items() if reason} == {
        "self.jpg": f"cannot be read: {os.strerror(40)}"
    }
    assert tmp_path / "self.jpg" in list(walk_images(tmp_path))  # whoever reads it says why it cannot be


def test_what_is_left_out_is_counted_by_kind(tmp_path):
    fill(tmp_path, "a.png", "b.txt", "c.txt", ".hidden.png", ".cache/d.png", "s.tar", "README", "sub/e.xcf")
    (tmp_path / "linked").symlink_to(tmp_path / "sub")
    left_out = LeftOut()
    assert [path for path, _ in walk_folder(tmp_path, left_out)] == [tmp_path / "a.png"]
    assert left_out == {
        ".txt": 2,
        ".xcf": 1,
        "file without a suffix": 1,
        "hidden file": 1,
        "hidden folder": 1,
        "linked folder": 1,
        "shard": 1,
    }


def test_left_out_in_words():
    assert LeftOut().describe() == ""
    counts = LeftOut({".txt": 2, "hidden file": 2, "file without a suffix": 3, "linked folder": 1})
    assert counts.describe() == ("left out: 3 files without a suffix, 2 .txt, 2 hidden files, 1 linked folder")


@pytest.fixture
def unreadable(tmp_path, monkeypatch):
    """A folder that cannot be listed, for root as well."""
    fill(tmp_path, "a.png", "closed/b.png", "z.png")
    real = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr("os.scandir", scandir)
    return tmp_path


def test_a_folder_without_permission_is_a_row_for_predict(unreadable):
    assert [(path.name, reason) for path, reason in walk_folder(unreadable)] == [
        ("a.png", None),
        ("closed", "cannot be listed: Permission denied"),
        ("z.png", None),
    ]


def test_a_folder_without_permission_is_an_error_where_figures_are_made(unreadable):
    """verify said PASSED on what was left."""
    with pytest.raises(InputError, match=r"closed: cannot be listed: Permission denied; make it readable"):
        list(walk_images(unreadable))


def test_a_missing_folder_holds_nothing(tmp_path):
    assert list(walk_images(tmp_path / "none")) == []


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "none"])
def test_names_that_no_folder_has(name):
    assert not is_folder(name)
