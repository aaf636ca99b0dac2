"""Journals that no process of ours wrote: nothing outside the folder is touched, and the folder stays usable."""

import json
import os

import pytest

from lfm_deploy.errors import DeployWarning
from lfm_deploy.storage.atomic import finish_commits, remove_leftovers, write_together
from lfm_deploy.workdir import Workdir

BESIDE = ".lfm-tmp-x-1"
DAMAGED = {
    "empty": b"",
    "cut": b'{".lfm-tmp-x-1": "a',
    "no text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "a list": b"[1]",
    "no renames": b"{}",
    "a number for a name": b'{".lfm-tmp-x-1": 5}',
    "a list for a name": b'{".lfm-tmp-x-1": ["a"]}',
    "a parent": b'{".lfm-tmp-x-1": "../stolen"}',
    "a parent to take from": b'{"../.lfm-tmp-x-1": "a"}',
    "the parent": b'{".lfm-tmp-x-1": ".."}',
    "the folder": b'{".lfm-tmp-x-1": "."}',
    "nothing": b'{".lfm-tmp-x-1": ""}',
    "absolute": b'{".lfm-tmp-x-1": "/stolen"}',
    "another file": b'{"kept": "a"}',
    "NUL": b'{".lfm-tmp-x-1": "a\\u0000"}',
    "a surrogate": b'{".lfm-tmp-x-1": "\\ud800"}',
    "too long": json.dumps({BESIDE: "a" * 300}).encode(),
    "two for one": b'{".lfm-tmp-x-1": "a", ".lfm-tmp-x-2": "a"}',
    "a journal": b'{".lfm-tmp-x-1": ".lfm-commit-journal-2"}',
    "one of two": b'{".lfm-tmp-x-1": "a", ".lfm-tmp-x-2": "../b"}',
    "a folder in its place": b'{".lfm-tmp-x-1": "sub"}',
    "megabytes": b" " * (2 << 20) + b"{}",
}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "deep" / "folder"
    (folder / "sub" / "full").mkdir(parents=True)
    (folder / "kept").write_bytes(b"kept")
    (folder / "a").write_bytes(b"old")
    (folder / BESIDE).write_bytes(b"new")
    (folder / ".lfm-tmp-x-2").write_bytes(b"new 2")
    return folder


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_journal_is_put_aside_and_changes_nothing(folder, content):
    (folder / ".lfm-commit-journal-1").write_bytes(content)
    with pytest.warns(DeployWarning, match=r"put aside as .lfm-damaged-journal-1\. 'lfm-deploy inspect") as caught:
        finish_commits(folder)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    finish_commits(folder)  # without a word from now on
    remove_leftovers(folder)
    assert sorted(path.name for path in folder.iterdir()) == [".lfm-damaged-journal-1", "a", "kept", "sub"]
    assert (folder / "kept").read_bytes() == b"kept"
    assert (folder / "a").read_bytes() == b"old"
    assert (folder / ".lfm-damaged-journal-1").read_bytes() == content
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def make_folder(path):
    path.mkdir()


def make_link(path):
    path.parent.joinpath("elsewhere").write_text(json.dumps({BESIDE: "kept"}))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("make", [make_folder, os.mkfifo, make_link])
def test_what_is_no_file_is_never_read(folder, make):
    make(folder / ".lfm-commit-journal-1")
    with pytest.warns(DeployWarning, match="put aside"):
        finish_commits(folder)
    assert (folder / "kept").read_bytes() == b"kept"


def test_a_prepared_file_that_is_a_link_is_not_put_in_a_place(folder):
    (folder / BESIDE).unlink()
    (folder / BESIDE).symlink_to("kept")
    (folder / ".lfm-commit-journal-1").write_text(json.dumps({BESIDE: "a"}))
    with pytest.warns(DeployWarning, match="is not a file"):
        finish_commits(folder)
    assert (folder / "a").read_bytes() == b"old"


def test_a_whole_journal_is_followed(folder):
    (folder / ".lfm-commit-journal-1").write_text(json.dumps({BESIDE: "a", ".lfm-tmp-gone": "kept"}))
    finish_commits(folder)
    assert (folder / "a").read_bytes() == b"new"
    assert (folder / "kept").read_bytes() == b"kept"
    assert not (folder / ".lfm-commit-journal-1").exists()


def test_a_workdir_with_a_damaged_journal_can_be_written(folder):
    (folder / ".lfm-commit-journal-1").touch()
    with pytest.warns(DeployWarning, match="empty"), Workdir(folder).lock(print):
        write_together({folder / "a": b"newest"})
    assert (folder / "a").read_bytes() == b"newest"
