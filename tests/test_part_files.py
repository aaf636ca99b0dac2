"""The file of one part: read back as it was written, or refused in one line."""

from dataclasses import replace
from pathlib import Path

import pytest

from lfm_deploy.errors import ArtifactError, WriteError
from lfm_deploy.prediction.part_files import (
    PartCounts,
    PartHead,
    describe_changes,
    hash_settings,
    read_head,
    read_rows,
    readable,
    split_settings,
    write_part,
)
from lfm_deploy.prediction.rows import Prediction
from lfm_deploy.storage.atomic import sha256_of_bytes

ROWS = b"path,logit\na.png,1.5\n\xff.png,2\n"
SETTINGS = {"engine": "0" * 64, "threshold": 0.25, "contract": {"size": 256}}


@pytest.fixture
def head():
    return PartHead(
        part=readable("ü \udcff.tar"),
        part_sha256="1" * 64,
        shard_bytes=10,
        rows_format="csv",
        settings=SETTINGS,
        settings_sha256=hash_settings(SETTINGS),
        machine={"processor": "one"},
        counts=PartCounts(fake=1, real=2),
        problem=None,
        rows_bytes=len(ROWS),
        rows_sha256=sha256_of_bytes(ROWS),
    )


@pytest.fixture
def path(tmp_path, head):
    path = tmp_path / "x.part"
    write_part(path, head, ROWS)
    return path


def test_a_part_is_read_back_as_it_was_written(path, head):
    assert read_head(path) == head
    assert read_rows(path, head) == ROWS
    assert head.part == "ü \\xff.tar"
    assert path.read_bytes().partition(b"\n")[2] == ROWS
    assert [entry.name for entry in path.parent.iterdir()] == ["x.part"]


def test_no_changed_byte_is_taken(path):
    content = path.read_bytes()
    head_bytes = content.index(b"\n") + 1
    for position in [*range(0, head_bytes, 7), *range(head_bytes - 1, len(content))]:
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(ArtifactError, match=r"x\.part: "):
            read_rows(path, read_head(path))


@pytest.mark.parametrize("thefts", [1, 2, 3])
def test_a_temporary_file_that_another_node_took_away_is_written_again(path, head, monkeypatch, thefts):
    replace_file, left = Path.replace, [None] * thefts

    def steal(self, target):
        if left:
            left.pop()
            self.unlink()
        return replace_file(self, target)

    path.unlink()
    monkeypatch.setattr(Path, "replace", steal)
    if thefts == 3:
        with pytest.raises(WriteError):
            write_part(path, head, ROWS)
    else:
        write_part(path, head, ROWS)
        assert read_rows(path, read_head(path)) == ROWS
    assert not list(path.parent.glob(".*"))


@pytest.mark.parametrize("left", [0, 1, 100, -1, -len(ROWS), -len(ROWS) - 1])
def test_a_file_that_was_cut_short_is_refused(path, left):
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ArtifactError):
        read_rows(path, read_head(path))


def test_rows_too_many_are_refused(path):
    path.write_bytes(path.read_bytes() + b"b.png,1\n")
    with pytest.raises(ArtifactError, match="rows are not those"):
        read_rows(path, read_head(path))


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"{}\n", b"[]\n", b"7\n", b"path,logit\n", b"\x89PNG\r\n\x1a\n", b"{" * 99]
)
def test_files_of_others_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "other.part"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"other\.part: ") as caught:
        read_head(path)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_settings_that_do_not_have_their_hash_are_refused(head):
    with pytest.raises(ArtifactError, match="settings_sha256"):
        replace(head, settings=SETTINGS | {"threshold": 0.5})


def test_a_machine_of_its_own_is_no_other_setting():
    run = SETTINGS | {"device": "cuda:0", "processor": "one", "libraries": {"numpy": "2"}, "pair": (1, 2)}
    settings, machine = split_settings(run)
    assert split_settings(run | {"device": "cuda:1", "processor": "two", "libraries": {}})[0] == settings
    assert machine == {"device": "cuda:0", "processor": "one", "libraries": {"numpy": "2"}}
    for other in ({"device": "cpu"}, {"threshold": 0.5}, {"engine": "1" * 64}, {"contract": {"size": 224}}):
        changed = split_settings(run | other)[0]
        assert hash_settings(changed) != hash_settings(settings)
        assert describe_changes(settings, changed).startswith(*other)
    assert describe_changes(settings, settings) == ""


def test_counts_are_those_of_the_rows_and_add_up():
    rows = [Prediction(index=0, path="a", verdict=verdict) for verdict in ("fake", "real", "real", "uncertain", None)]
    outside = Prediction(index=1, path="b", verdict="fake", notes=("outside: too small",))
    counts = PartCounts.of(rows) + PartCounts.of([outside])
    assert counts == PartCounts(fake=2, real=2, uncertain=1, not_judged=1, outside=1)
    assert counts.pictures == 6
    assert counts.describe(outside=False) == "6 pictures: 2 fake, 1 uncertain, 2 real, 1 not judged"
    assert counts.describe(outside=True).endswith("1 outside of what this detector was proved on")
