import subprocess
import sys
import textwrap

import pytest

from lfm_deploy.storage.atomic import finish_commits, remove_leftovers, write_atomically, write_together

KILLED = """
    import os, sys
    from pathlib import Path
    from lfm_deploy.storage import atomic

    folder, fatal = Path(sys.argv[1]), int(sys.argv[2])
    calls = 0

    def counted(function):
        def call(*arguments, **options):
            global calls
            calls += 1
            if calls == fatal:
                os._exit(9)
            return function(*arguments, **options)
        return call

    for name in ("replace", "unlink", "write_bytes", "write_text"):
        setattr(Path, name, counted(getattr(Path, name)))
    os.fsync = counted(os.fsync)
    atomic.write_together({folder / "a": b"new a", folder / "b": b"new b"})
    print(calls)
"""


def test_a_death_at_any_step_leaves_both_old_or_both_new(tmp_path):
    seen = []
    for fatal in range(1, 100):
        folder = tmp_path / str(fatal)
        folder.mkdir()
        (folder / "a").write_bytes(b"old a")
        (folder / "b").write_bytes(b"old b")
        finished = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(KILLED), folder, str(fatal)], capture_output=True, check=False
        )
        finish_commits(folder)
        remove_leftovers(folder)
        assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]
        seen.append(((folder / "a").read_bytes(), (folder / "b").read_bytes()))
        if finished.returncode == 0:
            break
    old, new = (b"old a", b"old b"), (b"new a", b"new b")
    assert set(seen) == {old, new}
    assert seen == sorted(seen, reverse=True)  # once committed, always committed
    assert len(seen) > 10  # there were that many steps to die at


def test_files_that_were_not_there_appear_together(tmp_path):
    write_together({tmp_path / "deep" / "a": b"1", tmp_path / "deep" / "b": b"2"})
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["a", "b"]


def test_a_failure_before_the_commit_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_together({tmp_path / "a": b"1", tmp_path / "b": "not bytes"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_write_keeps_the_old_file(tmp_path, error):
    (tmp_path / "a").write_text("old")

    def interrupted():
        with write_atomically(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_what_another_process_writes_now_is_no_leftover(tmp_path):
    dead = tmp_path / ".lfm-tmp-a-dead"
    dead.write_bytes(b"half")
    with write_atomically(tmp_path / "a") as temporary:  # the first write of this process here removes what is dead
        assert not dead.exists()
        temporary.write_bytes(b"new")
        code = (
            f"from pathlib import Path; from lfm_deploy.storage.atomic import remove_leftovers; "
            f"remove_leftovers(Path({str(tmp_path)!r}))"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        assert temporary.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_name_as_long_as_names_may_be(tmp_path):
    with write_atomically(tmp_path / ("ä" * 127)) as temporary:
        temporary.write_bytes(b"new")
    write_together({tmp_path / ("b" * 255): b"1", tmp_path / "c": b"2"})
    assert len(list(tmp_path.iterdir())) == 3


def test_a_missing_folder_has_no_leftovers(tmp_path):
    remove_leftovers(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
