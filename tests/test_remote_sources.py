"""Pictures in a store come as their copies on a disk do: the same names below it, bytes, order and reasons."""

import contextlib
import shutil
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from s3_server import Bucket
from shard_list import make_list

from lfm_deploy.errors import ImageError, InputError, RefusedError
from lfm_deploy.pictures.left_out import LeftOut
from lfm_deploy.pictures.pixel_limit import limit_pixels
from lfm_deploy.pictures.sources import find_sources


@pytest.fixture(scope="module")
def stored(pictures, tmp_path_factory, s3_server):
    """A folder with files of all kinds, and the same in a bucket."""
    tmp_path, bucket = tmp_path_factory.mktemp("here"), Bucket(s3_server.url)
    make_list(pictures, tmp_path)
    (tmp_path / "deep" / "a-b").mkdir(parents=True)
    (tmp_path / "deep" / "a").mkdir()
    (tmp_path / "deep" / ".hidden").mkdir()
    for name in ("a-b/x.png", "a/x.png", "a/notes.txt", "a/.y.png", ".hidden/x.png", "a.jpg", "[1].png", "none"):
        shutil.copy(tmp_path / "photos" / "0.png", tmp_path / "deep" / name)
    shutil.copy(tmp_path / "one.tar", tmp_path / "deep" / "one.tar")
    with tarfile.open(tmp_path / "linked.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "photos" / "0.png", "first.png")
        link = tarfile.TarInfo("second.png")
        link.type, link.linkname = tarfile.LNKTYPE, "first.png"
        archive.addfile(link)
    (tmp_path / "empty.tar").touch()
    (tmp_path / "empty.png").touch()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            bucket.put(path.relative_to(tmp_path).as_posix(), path.read_bytes())
    bucket.put("deep/", b"")  # as consoles mark a folder
    return tmp_path, bucket


@pytest.fixture
def home(stored, s3_server, monkeypatch):
    """The bucket, from the folder."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(stored[0])
    return stored[1]


def found(*names, lists=()):
    """Names, bytes or reasons, and what was left out."""
    left_out = LeftOut()
    rows = []
    for source in find_sources(list(names), list(lists), left_out):
        try:
            content = source.load()
            rows.append((source.name, content.read_bytes() if isinstance(content, Path) else content))
        except (ImageError, FileNotFoundError) as error:
            rows.append((source.name, "no such file" if isinstance(error, FileNotFoundError) else str(error)))
    return rows, left_out


@pytest.mark.parametrize(
    "name",
    [
        "photos",
        "deep",
        "deep/",
        "one.tar",
        "two.zip",
        "three.tar.gz",
        "bad.tar",
        "linked.tar.gz",
        "empty.tar",
        "empty.png",
        "deep/[[]1].png",
        "deep/[1].png",
        "deep/**/*.png",
        "*.tar",
        "photos/?.png",
    ],
)
def test_they_are_those_of_the_disk(home, name):
    rows, left_out = found(home.url(name))
    wanted, wanted_left_out = found(name)
    assert rows == [(home.url(path), content) for path, content in wanted]
    assert rows
    assert left_out == wanted_left_out


def test_lists_lie_anywhere_and_name_anything(home, tmp_path):
    lines = [home.url("one.tar"), "two.zip", home.url("photos"), home.url("none.png"), home.url("none.tar"), "gone.png"]
    home.put("list.txt", "\n".join(lines).encode())
    (tmp_path / "here.txt").write_text("\n".join(lines))
    rows, _ = found(f"@{home.url('list.txt')}")
    assert rows == found(lists=[home.url("list.txt")])[0] == found(f"@{tmp_path / 'here.txt'}")[0]
    reasons = {name: content for name, content in rows if isinstance(content, str)}
    assert reasons == dict.fromkeys([home.url("none.png"), home.url("none.tar"), "gone.png"], "no such file")


@pytest.mark.parametrize("name", ["none", "none.png", "none.tar", "none/*.png", "@none.txt"])
def test_what_is_not_there_is_bad_input(home, name):
    place = f"@{home.url(name[1:])}" if name.startswith("@") else home.url(name)
    with pytest.raises(InputError, match="no such"):
        next(find_sources([place]))


def test_a_store_that_refuses_ends_the_walk(home):
    walk = find_sources([home.url("one.tar"), "s3://no-such-bucket/x.tar", home.url("two.zip")])
    assert [next(walk).name for _ in range(3)]
    with pytest.raises(RefusedError, match="no such bucket"):
        next(walk)
    *_, last = find_sources([home.url("one.tar"), "s3://no-such-bucket/x.png"])
    with pytest.raises(RefusedError, match="no such bucket"):
        last.load()


def open_files():
    for handle in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the walk itself
            yield str(handle.readlink())


def test_members_are_there_as_long_as_they_are_wanted_and_no_file_is(home, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    names = ["one.tar", "two.zip", "three.tar.gz", "linked.tar.gz"]
    sources = list(find_sources([home.url(name) for name in names]))
    wanted = [content for _, content in found(*names)[0]]
    assert not list(scratch.iterdir())
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda source: source.load(), sources * 5)) == wanted * 5
    del sources
    assert not [path for path in open_files() if path.startswith(str(scratch))]


def test_what_is_too_large_for_a_picture_is_not_read(home):
    source = next(find_sources([home.put("large.png", bytes(3 << 20))]))
    with limit_pixels(100), pytest.raises(ImageError, match="not taken for a picture"):
        source.load()
