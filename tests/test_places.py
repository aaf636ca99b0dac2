"""Places in stores: what is read is what is there, and what is written is there whole or not at all."""

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from s3_server import Proxy, command_environment
from waiting import wait_for

from lfm_deploy.errors import StoreError, WriteError
from lfm_deploy.storage.places import RemotePath, Unnamed, as_place, find_size, is_remote, write_whole

# Three of the pieces in which an object is copied, and half a one.
LARGE = os.urandom(1 << 20) * 56


@pytest.fixture
def folder(bucket):
    bucket.put("in/a.png", b"one")
    bucket.put("in/b/c.tar", b"three")
    bucket.put("in/odd [1]?#%20::é.png", b"odd")
    return RemotePath(bucket.url("in/"))


def test_urls_are_told_from_paths():
    assert is_remote("s3://b/x")
    assert is_remote("file:///x")
    assert not any(map(is_remote, ("a/b", "/a", "s3:/b", "@s3://b", "C:\\x", "", "s3:", Path("s3://b/x"))))
    assert as_place("s3://b/x/") == RemotePath("s3://b/x")
    assert as_place(RemotePath("s3://b")) == RemotePath("s3://b")
    assert as_place("a/b") == Path("a/b")
    assert str(RemotePath("s3://b/x.tar/") / "y.part") == "s3://b/x.tar/y.part"
    assert (RemotePath("s3://b/x.tar.gz").name, RemotePath("s3://b/x.tar.gz").suffix) == ("x.tar.gz", ".gz")


def test_what_is_there_is_found(bucket, folder):
    assert folder.exists()
    assert folder.is_dir()
    assert not (folder / "a.png").is_dir()
    assert not (folder / "none.png").exists()
    assert (folder / "a.png").find_size() == 3
    assert find_size(folder / "none.png") is None
    found = {path.name: (is_folder, size) for path, is_folder, size in folder.list_folder()}
    assert found == {"a.png": (False, 3), "b": (True, 0), "odd [1]?#%20::é.png": (False, 3)}
    assert folder.match("**/*.tar") == [folder / "b" / "c.tar"]
    assert (folder / "odd [1]?#%20::é.png").read_bytes() == b"odd"
    assert (folder / "a.png").read_start(2) == b"on"
    with pytest.raises(FileNotFoundError):
        (folder / "none").list_folder()
    bucket.delete("in/a.png")  # nothing is remembered
    assert not (folder / "a.png").exists()
    assert len(folder.list_folder()) == 2


@pytest.mark.parametrize("content", [b"", b"some", LARGE])
def test_a_copy_has_the_bytes_and_no_name(bucket, content, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    place = RemotePath(bucket.put("x", content))
    copy = place.fetch()
    assert copy.path.read_bytes() == content
    with place.open("rb") as file:
        assert file.read() == content
    assert not list(tmp_path.iterdir())
    path = copy.path
    del copy
    assert not path.exists()


def test_a_copy_of_another_size_than_the_store_said_is_no_copy(bucket, monkeypatch):
    place = RemotePath(bucket.put("x", b"some"))
    monkeypatch.setattr(RemotePath, "find_size", lambda _: 5)
    with pytest.raises(StoreError, match="ends behind 4 of 5 bytes"):
        place.fetch()


def test_a_file_is_put_when_it_is_complete(bucket, tmp_path):
    place = RemotePath(bucket.url("out/x.bin"))
    with write_whole(place) as temporary:
        temporary.write_bytes(b"half")
        assert not bucket.keys()
        temporary.write_bytes(b"whole")
    assert bucket.contents() == {"out/x.bin": b"whole"}
    with suppress(ZeroDivisionError), write_whole(place) as temporary:
        temporary.write_bytes(b"other")
        raise ZeroDivisionError
    assert bucket.contents() == {"out/x.bin": b"whole"}
    with write_whole(tmp_path / "x.bin") as temporary:
        temporary.write_bytes(b"here")
    assert (tmp_path / "x.bin").read_bytes() == b"here"


def test_other_stores_of_fsspec_do_too(tmp_path):
    place = RemotePath(f"file://{tmp_path}/new/x.bin")
    with write_whole(place) as temporary:
        temporary.write_bytes(b"whole")
    assert (tmp_path / "new" / "x.bin").read_bytes() == b"whole"
    assert place.read_bytes() == b"whole"
    assert [path.name for path, _, _ in RemotePath(f"file://{tmp_path}/new").list_folder()] == ["x.bin"]


def test_without_room_it_says_where(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(WriteError, match="TMPDIR"):
        Unnamed()


def run(s3_server, url, code, *arguments):
    """Python in a process of its own, for which S3 is at another address."""
    environment = command_environment(s3_server.environment(url))
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, stderr=subprocess.PIPE)


FETCH = "import sys; from lfm_deploy.storage.places import RemotePath; RemotePath(sys.argv[1]).fetch()"
PUT = "import sys; from lfm_deploy.storage.places import *; RemotePath(sys.argv[1]).put(sys.argv[2])"


def test_a_copy_that_breaks_off_is_an_error_of_the_network(s3_server, bucket):
    url = bucket.put("x.tar", LARGE)
    with Proxy(s3_server.port, most_down=5 << 20) as proxy:
        process = run(s3_server, proxy.url, FETCH, url)
        _, said = process.communicate()
    assert f"StoreError: {url}: the store is out of reach" in said.decode().splitlines()[-1]
    assert process.returncode == 1


def test_a_process_that_is_killed_while_it_puts_leaves_no_half_object(s3_server, bucket, tmp_path):
    (tmp_path / "x").write_bytes(LARGE)
    with Proxy(s3_server.port, most_up=20 << 20, stall=True) as proxy:
        process = run(s3_server, proxy.url, PUT, bucket.url("x"), str(tmp_path / "x"))
        wait_for(proxy.is_full.is_set)
        process.kill()
        process.communicate()
        assert bucket.keys() == []
    assert bucket.keys() == []
    process = run(s3_server, s3_server.url, PUT, bucket.url("x"), str(tmp_path / "x"))
    process.communicate()
    assert bucket.get("x") == LARGE
