import hashlib
import os

from lfm_deploy.pictures.fingerprints import fingerprint_files


def test_content_counts_and_names_do_not(tmp_path):
    for name, content in (("a", b"x" * 100_000), ("b", b"x" * 100_000), ("c", b"")):
        (tmp_path / name).write_bytes(content)
    steps = []
    first, second, empty = fingerprint_files([tmp_path / name for name in "abc"], lambda *step: steps.append(step))
    assert first.sha256 == second.sha256 == hashlib.sha256(b"x" * 100_000).hexdigest()
    assert empty.bytes == 0
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_what_is_no_readable_file_has_none(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    assert fingerprint_files([tmp_path / "pipe", tmp_path, tmp_path / "gone"]) == [None, None, None]


def test_a_file_that_was_written_since_is_noticed(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    (found,) = fingerprint_files([path])
    assert found.still_holds(path)
    path.write_bytes(b"two")
    os.utime(path, ns=(found.changed_ns + 1, found.changed_ns + 1))  # clocks of file systems tick slowly
    assert not found.still_holds(path)
    path.unlink()
    assert not found.still_holds(path)
