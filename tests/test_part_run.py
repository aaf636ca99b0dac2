"""Parts of a list, judged one after the other: what is there stays, what is not comes, and rows are predict's."""

import shutil
from pathlib import Path

import pytest
from shard_list import SHARDS, make_list

from lfm_deploy.errors import ArtifactError, ImageError, InputError, WriteError
from lfm_deploy.prediction.judges import open_judge
from lfm_deploy.prediction.part_files import PartCounts, read_head, read_part, read_rows
from lfm_deploy.prediction.part_run import judge_parts, make_folder
from lfm_deploy.prediction.parts import find_parts
from lfm_deploy.prediction.prediction import predict
from lfm_deploy.prediction.rows import RowFormat, write_header, write_rows
from lfm_deploy.prediction.shares import Share


@pytest.fixture
def listed(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_list(pictures, tmp_path)


@pytest.fixture
def judge(small_workdir):
    judge = open_judge(small_workdir)
    yield judge
    judge.engine.close()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def parts():
    return find_parts(["@list.txt"], most=4)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("form", [RowFormat.CSV, RowFormat.JSONL])
def test_rows_of_a_part_are_those_of_predict_byte_for_byte(listed, judge, small_workdir, out, form):
    run = judge_parts(judge, parts(), out, form)
    assert (run.judged, run.skipped, run.unreadable) == (7, 0, 2)
    total = PartCounts()
    for part in parts():
        path = out / part.file_name
        head = read_head(path)
        # A list, since a name alone that leads nowhere is an error and no row.
        Path("part.txt").write_text("\n".join(getattr(entry, "name", entry) for entry in part.entries))
        rows = list(predict("@part.txt", workdir=small_workdir))
        assert read_rows(path, head) == write_header(form) + write_rows(rows, form)
        assert head.counts == PartCounts.of(rows)
        assert head.part == part.name
        assert head.shard_bytes == (part.shard.stat().st_size if part.shard and part.shard.exists() else None)
        total += head.counts
    assert run.counts == total
    assert run.counts.pictures == 18
    assert len(contents(out)) == 7


def test_parts_as_parquet_hold_the_rows_of_csv(listed, judge, out, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    odd = Path("odd")
    odd.mkdir()
    for name in ("\udcff.png", 'a "b", c.png', "\r\n.png", "ü.png"):
        shutil.copy("photos/0.png", odd / name)
    list_of_all = ["@list.txt", "odd"]
    judge_parts(judge, find_parts(list_of_all), tmp_path / "csv", RowFormat.CSV)
    run = judge_parts(judge, find_parts(list_of_all), out, RowFormat.PARQUET)
    assert {name.partition(".part")[2] for name in contents(out)} == {".parquet"}
    for part in find_parts(list_of_all):
        head, rows = read_part(out / f"{part.file_name}.parquet")
        wanted_head, wanted = read_part(tmp_path / "csv" / part.file_name)
        assert rows == wanted.decode("utf-8", "backslashreplace").encode()
        assert (head.counts, head.problem) == (wanted_head.counts, wanted_head.problem)
        assert head.rows_format == head.settings["format"] == "parquet"
        assert pq.read_table(out / f"{part.file_name}.parquet").num_rows == head.counts.pictures
    again = judge_parts(judge, find_parts(list_of_all), out, RowFormat.PARQUET)
    assert (run.judged, again.judged, again.skipped) == (7, 2, 5)


def test_one_changed_bit_anywhere_in_a_parquet_part_is_damage(listed, judge, out):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    judge_parts(judge, find_parts(["one.tar"]), out, RowFormat.PARQUET)
    (path,) = out.iterdir()
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        with pytest.raises(ArtifactError, match="damaged"):
            read_part(path)
    path.write_bytes(whole)
    read_part(path)


def test_results_of_another_format_are_refused(listed, judge, out):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    judge_parts(judge, find_parts(["one.tar"]), out, RowFormat.PARQUET)
    for overwrite in (False, True):
        with pytest.raises(InputError, match="another format than csv"):
            judge_parts(judge, find_parts(["one.tar"]), out, RowFormat.CSV, overwrite=overwrite)
    assert len(contents(out)) == 1


def test_shares_together_write_what_one_run_writes(listed, judge, tmp_path):
    for number in (1, 2, 3):
        judge_parts(judge, parts(), tmp_path / "shared", RowFormat.CSV, share=Share(number=number, count=3))
    judge_parts(judge, parts(), tmp_path / "alone", RowFormat.CSV)
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


def test_what_is_there_is_left_and_only_the_rest_is_judged(listed, judge, out):
    judge_parts(judge, parts(), out, RowFormat.CSV)
    before = contents(out)
    files = {part.name: out / part.file_name for part in parts()}
    stamps = {path: path.stat().st_mtime_ns for path in files.values()}
    files["two.zip"].unlink()
    files["one.tar"].write_bytes(before[files["one.tar"].name][:-1])
    shutil.copy(files["photos/3.png and 1 more"], files["photos/0.png and 3 more"])
    said = []
    run = judge_parts(judge, parts(), out, RowFormat.CSV, on_message=said.append)
    assert contents(out) == before
    # Those three, and the two shards that could not be read, which may be there by now.
    assert (run.judged, run.skipped) == (5, 2)
    assert files["three.tar.gz"].stat().st_mtime_ns == stamps[files["three.tar.gz"]]
    assert sum("again" in line for line in said) == 4


def test_a_shard_that_cannot_be_read_has_a_file_that_says_so_until_it_can(listed, judge, out):
    bad = [part for part in parts() if part.name in SHARDS[3:]]
    run = judge_parts(judge, bad, out, RowFormat.CSV)
    cut, missing = [read_head(out / part.file_name) for part in bad]
    assert missing.problem == "no such file"
    assert missing.counts == PartCounts(not_judged=1)
    assert "cut short" in cut.problem
    assert cut.counts.pictures > 1
    assert run.unreadable == 2
    shutil.copy("two.zip", "no such.zip")
    judge_parts(judge, bad, out, RowFormat.CSV)
    assert read_head(out / bad[1].file_name).problem is None


def test_a_shard_that_has_changed_is_judged_again(listed, judge, out):
    judge_parts(judge, find_parts(["one.tar"]), out, RowFormat.CSV)
    before = contents(out)
    shutil.copy("three.tar.gz", "one.tar")
    assert judge_parts(judge, find_parts(["one.tar"]), out, RowFormat.CSV).judged == 1
    assert contents(out).keys() == before.keys()
    assert contents(out) != before


def test_results_of_other_settings_are_refused_unless_they_may_go(listed, judge, small_workdir, out):
    judge_parts(judge, find_parts(["one.tar"]), out, RowFormat.CSV)
    before = contents(out)
    other = open_judge(small_workdir, threshold=1.5)
    with pytest.raises(InputError, match=r"threshold 0\.0 and 1\.5"):
        judge_parts(other, find_parts(["one.tar"]), out, RowFormat.CSV)
    with pytest.raises(InputError, match="format csv and jsonl"):
        judge_parts(judge, find_parts(["one.tar"]), out, RowFormat.JSONL)
    assert contents(out) == before
    assert judge_parts(other, find_parts(["one.tar"]), out, RowFormat.CSV, overwrite=True).judged == 1
    assert contents(out) != before


def test_a_run_that_ends_in_a_part_leaves_nothing_of_it(listed, judge, out):
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge_parts(judge, parts(), out, RowFormat.CSV, on_pictures=stop)
    assert not out.exists()
    with pytest.raises(ImageError, match="strict"):
        judge_parts(judge, parts(), out, RowFormat.CSV, strict=True)
    assert sorted(name.partition("-")[0] for name in contents(out)) == ["one.tar", "two.zip"]


def test_a_folder_that_cannot_be_made_is_said_in_time(listed):
    with pytest.raises(WriteError, match=r"list\.txt: cannot be written") as caught:
        make_folder(listed)
    assert caught.value.exit_code == 2
