"""What stores refuse: one line, by whose fault it is, and never a traceback."""

import builtins
import errno
import sys

import pytest
from s3_server import S3Server, command_environment, free_port

from lfm_deploy.errors import (
    DeployError,
    InputError,
    RefusedError,
    StoreError,
    UnavailableError,
    WriteError,
)
from lfm_deploy.storage import stores
from lfm_deploy.storage.stores import Asked, ask_store, find_store


@pytest.fixture(autouse=True)
def _new_stores(monkeypatch):
    """No connection of another test, whose settings may be others."""
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    stores._open_store.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    stores._open_store.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


def refused(url, asked=Asked.INFO, *arguments):
    with pytest.raises(DeployError) as caught:
        ask_store(url, asked, *arguments)
    said = str(caught.value)
    assert said.startswith(url)
    assert "\n" not in said
    return caught.value


@pytest.mark.parametrize("asked", [Asked.INFO, Asked.LIST, Asked.READ, Asked.GET, Asked.PUT])
def test_a_bucket_that_is_not_there_is_bad_input(bucket, asked, tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    arguments = [str(tmp_path / "x")] if asked in (Asked.GET, Asked.PUT) else []
    error = refused("s3://no-such-bucket/x", asked, *arguments)
    assert isinstance(error, RefusedError)
    assert error.exit_code == 2
    assert "no such bucket" in str(error)
    assert refused("s3://no-such-bucket").exit_code == 2


def test_an_object_that_is_not_there_is_not_the_bucket(bucket):
    for asked in (Asked.INFO, Asked.LIST, Asked.READ):
        with pytest.raises(FileNotFoundError):
            ask_store(bucket.url("none"), asked)


def test_a_name_that_none_can_have_is_bad_input(bucket):
    assert "Invalid bucket name" in str(refused("s3://B!/x"))
    assert isinstance(refused("s3://B!/x"), InputError)


def test_without_credentials_it_cannot_run_here(s3_server, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.environment(keys=False).items():
        monkeypatch.setenv(name, value)
    error = refused("s3://some/x")
    assert isinstance(error, UnavailableError)
    assert "no credentials on this machine" in str(error)


def test_a_store_that_is_gone_may_be_tried_again(s3_server, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for name, value in s3_server.environment(f"http://127.0.0.1:{free_port()}").items():
        monkeypatch.setenv(name, value)
    error = refused("s3://some/x")
    assert type(error) is StoreError
    assert error.exit_code == 1
    assert "out of reach" in str(error)


def test_what_is_not_theirs_to_use_is_bad_input(s3_server, tmp_path, monkeypatch):
    strict = S3Server(tmp_path / "log.txt", INITIAL_NO_AUTH_ACTION_COUNT="0")
    try:
        for name, value in strict.environment().items():
            monkeypatch.setenv(name, value)
        for asked in (Asked.INFO, Asked.LIST, Asked.READ):
            error = refused("s3://some/x", asked)
            assert isinstance(error, RefusedError)
            assert "the store refuses" in str(error)
    finally:
        strict.close()


def test_stores_that_nobody_knows_are_named():
    error = refused("foo://a/b")
    assert isinstance(error, InputError)
    assert "foo:// is no store" in str(error)


@pytest.mark.parametrize(("url", "library"), [("s3://a/b", "s3fs"), ("gs://a/b", "gcsfs"), ("s3://a/b", "fsspec")])
def test_without_the_library_it_says_how_to_get_it(monkeypatch, url, library):
    whole = builtins.__import__

    def without(name, *arguments, **options):
        if name.partition(".")[0] == library:
            raise ModuleNotFoundError(f"No module named {library!r}", name=library)
        return whole(name, *arguments, **options)

    registry = pytest.importorskip("fsspec.registry")
    for protocol in ("s3", "gs"):
        monkeypatch.delitem(registry._registry, protocol, raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnavailableError, match=rf"{library}, which reads .*not installed; run .*lfm-deploy\[remote\]"):
        find_store(url)


def test_room_that_is_missing_is_this_machines_fault(bucket, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    store, _ = find_store(bucket.url("x"))
    monkeypatch.setattr(store, "invalidate_cache", full)
    with pytest.raises(WriteError, match="TMPDIR") as caught:
        ask_store(bucket.url("x"), Asked.INFO)
    assert caught.value.exit_code == 1


def test_the_environment_of_a_command_holds_no_keys_of_ours(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    assert "AWS_SECRET_ACCESS_KEY" not in command_environment({})
