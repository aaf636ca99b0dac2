import json
import random

import pytest

from lfm_deploy.errors import InputError, WriteError
from lfm_deploy.pictures.sources import file_source
from lfm_deploy.prediction.resumption import ResumableFile, progress_path

SETTINGS = {"engine": "a" * 64, "threshold": 0.5, "contract": {"size": 256}}
NAMES = [f"{index}.png" for index in range(40)]


def row(name):
    return f"{name},1.0\n".encode()


def run(path, *, names=NAMES, group=4, stop_after=None, overwrite=False, settings=SETTINGS, commit_seconds=0.0):
    """What predict does with it; ``stop_after`` groups it is gone, as after kill -9."""
    with ResumableFile(path, settings, b"name,logit\n", overwrite=overwrite) as file:
        file.commit_seconds = commit_seconds
        sources = map(file_source, names)
        file.skip(sources)
        left = [source.name for source in sources]
        for number, start in enumerate(range(0, len(left) + group, group)):
            if number == stop_after:
                file.abandon()
                return
            chosen = left[start : start + group]
            if chosen:
                file.append(b"".join(map(row, chosen)), chosen)
        file.finish()


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out" / "rows.csv"


WHOLE = b"name,logit\n" + b"".join(map(row, NAMES))


def test_a_run_that_nothing_interrupts(output):
    run(output)
    assert output.read_bytes() == WHOLE
    assert [path.name for path in output.parent.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize("commit_seconds", [0.0, 100.0])
@pytest.mark.parametrize("stop_after", range(11))
def test_an_interrupted_run_is_completed(output, stop_after, commit_seconds):
    run(output, stop_after=stop_after, commit_seconds=commit_seconds)
    output.with_name(".lfm-tmp-rows.csv.progress.json-abc").write_text("half")
    run(output, commit_seconds=commit_seconds)
    assert output.read_bytes() == WHOLE
    assert [path.name for path in output.parent.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_a_dying_run_left_behind_its_last_block_is_cut(output, seed):
    random_ = random.Random(seed)
    run(output, stop_after=3)
    for _ in range(3):
        with output.open("ab") as file:
            file.write(WHOLE[: random_.randrange(30)])
        output.with_name(".lfm-tmp-rows.csv.progress.json-abc").write_text("half")
        run(output, stop_after=random_.randrange(3))
    output.with_name(".lfm-tmp-rows.csv.progress.json-abc").write_text("half")
    run(output, commit_seconds=100.0)
    assert output.read_bytes() == WHOLE
    assert [path.name for path in output.parent.iterdir()] == ["rows.csv"]


def test_a_run_that_died_before_its_header(output):
    output.parent.mkdir()
    output.touch()
    run(output)
    assert output.read_bytes() == WHOLE
    output.unlink()
    run(output, stop_after=0)
    output.write_bytes(b"name,lo")
    run(output)
    assert output.read_bytes() == WHOLE


def refuses(output, match, **options):
    before = output.read_bytes()
    with pytest.raises(InputError, match=match) as caught:
        run(output, **options)
    assert "\n" not in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert output.read_bytes() == before
    run(output, overwrite=True)
    assert output.read_bytes() == WHOLE


def test_other_settings_are_refused_and_named(output):
    run(output, stop_after=2)
    refuses(output, "threshold was 0.5, is 0.75", settings=SETTINGS | {"threshold": 0.75})
    run(output, stop_after=2, overwrite=True)
    refuses(output, "engine was aaaaaaaaaaaa, is bbbbbbbbbbbb", settings=SETTINGS | {"engine": "b" * 64})


@pytest.mark.parametrize("names", [NAMES[1:], ["x.png", *NAMES], NAMES[:3], []])
def test_another_list_is_refused(output, names):
    run(output, stop_after=2)
    refuses(output, "its first 8 pictures are not those of this list", names=names)
    run(output, stop_after=2, overwrite=True)
    with pytest.raises(InputError):
        run(output, names=names)
    run(output)  # the right one is still continued
    assert output.read_bytes() == WHOLE


def test_a_list_that_grew_is_continued(output):
    run(output, names=NAMES[:20], stop_after=2)
    run(output)
    assert output.read_bytes() == WHOLE


def test_a_file_that_was_changed_meanwhile_is_refused(output):
    run(output, stop_after=3)
    content = output.read_bytes()
    output.write_bytes(content.replace(b"1.0", b"1.1", 1))
    refuses(output, "was changed")
    run(output, stop_after=3, overwrite=True)
    output.write_bytes(content[:20])
    refuses(output, "was changed")


def test_a_complete_file_is_not_begun_again(output):
    run(output)
    refuses(output, "is there already, and complete")


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"format": "other"}), "[" * 100_000])
def test_a_damaged_progress_is_refused(output, content):
    run(output, stop_after=2)
    progress_path(output).write_text(content)
    refuses(output, "damaged, or of another version")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bytes", -1),
        ("bytes", 2.5),
        ("bytes", True),
        ("pictures", "8"),
        ("pictures", None),
        ("list_sha256", None),
        ("list_sha256", "0"),
        ("content_sha256", 7),
        ("settings", []),
    ],
)
def test_a_progress_with_values_that_cannot_be_is_refused(output, key, value):
    """Without the list's digest rows were repeated or lost; too many bytes filled the file up with zeros."""
    run(output, stop_after=2)
    values = json.loads(progress_path(output).read_text())
    for change in (values | {key: value}, {name: kept for name, kept in values.items() if name != key}):
        progress_path(output).write_text(json.dumps(change))
        with pytest.raises(InputError, match="damaged, or of another version"):
            run(output)


def test_more_bytes_than_there_are_is_a_change(output):
    run(output, stop_after=2)
    before, values = output.read_bytes(), json.loads(progress_path(output).read_text())
    progress_path(output).write_text(json.dumps(values | {"bytes": 2**31}))
    with pytest.raises(InputError, match="was changed"):
        run(output)
    assert output.read_bytes() == before


def test_a_name_that_leaves_no_room_for_its_progress_leaves_no_file(tmp_path):
    with pytest.raises(WriteError, match="cannot be written: File name too long"):
        ResumableFile(tmp_path / ("n" * 250), SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_two_runs_cannot_write_one_file(output):
    with ResumableFile(output, SETTINGS), pytest.raises(InputError, match="another lfm-deploy is writing it"):
        ResumableFile(output, SETTINGS)


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(WriteError, match="Is a directory"):
        ResumableFile(tmp_path, SETTINGS)
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot be written"):
        ResumableFile(tmp_path / "file" / "x.csv", SETTINGS)
    with pytest.raises(InputError, match="not a file that can be continued"):
        ResumableFile(type(tmp_path)("/dev/null"), SETTINGS)


def test_an_error_in_the_middle_keeps_whole_groups(output):
    with pytest.raises(RuntimeError), ResumableFile(output, SETTINGS, b"name,logit\n") as file:  # noqa: PT012
        file.append(row(NAMES[0]), NAMES[:1])
        file.append(row(NAMES[1]), NAMES[1:2])
        raise RuntimeError
    run(output)
    assert output.read_bytes() == WHOLE


def test_what_is_overwritten_leaves_no_tail(output):
    run(output)
    run(output, names=NAMES[:2], overwrite=True)
    assert output.read_bytes() == b"name,logit\n" + b"".join(map(row, NAMES[:2]))
