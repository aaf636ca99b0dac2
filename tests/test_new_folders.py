import pytest

from lfm_deploy.storage.new_folders import make_folders, remove_empty


def test_folders_that_were_missing_go_again(tmp_path):
    assert make_folders(tmp_path) == []
    made = make_folders(tmp_path / "a" / "b")
    assert made == [tmp_path / "a", tmp_path / "a" / "b"]
    assert make_folders(tmp_path / "a" / "b") == []
    remove_empty(made)
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_else_uses_stays(tmp_path):
    made = make_folders(tmp_path / "a" / "b")
    (tmp_path / "a" / "theirs").touch()
    remove_empty(made)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["theirs"]
    remove_empty(made)  # gone, or in use


def test_what_cannot_be_made_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="too long"):
        make_folders(tmp_path / "a" / ("b" * 300))
    (tmp_path / "file").touch()
    for folder in ("file", "file/below"):
        with pytest.raises(OSError, match=r"exists|Not a directory"):
            make_folders(tmp_path / folder)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_names_are_relative_to_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    remove_empty(make_folders(tmp_path.relative_to(tmp_path) / "a" / "b"))
    assert list(tmp_path.iterdir()) == []
