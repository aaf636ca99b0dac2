import io
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from lfm_deploy.errors import ImageError
from lfm_deploy.pictures.left_out import LeftOut
from lfm_deploy.pictures.members import failed_source, is_picture
from lfm_deploy.pictures.shards import is_shard, walk_shard

# Not sorted: the order of the archive counts. The second has a name that is dangerous to those who extract it.
MEMBERS = {"b/2.png": b"two", "../../evil.png": b"three", "a/1.JPG": b"one" * 50_000, "a/empty.png": b""}
OTHERS = {"notes.txt": b"x", ".hidden.png": b"x", "__MACOSX/._1.png": b"x", ".git/x.png": b"x"}


@pytest.fixture(params=["x.zip", "stored.zip", "x.tar", "x.tar.gz", "X.TGZ"])
def shard(request, tmp_path):
    path = tmp_path / request.param
    if path.suffix == ".zip":
        how = zipfile.ZIP_STORED if "stored" in path.name else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", how) as archive:
            archive.mkdir("a")
            for name, content in (MEMBERS | OTHERS).items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in (MEMBERS | OTHERS).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_members_come_in_the_order_of_the_archive(shard):
    assert {source.name: source.load() for source in walk_shard(shard)} == {
        f"{shard}/{name}": content for name, content in MEMBERS.items()
    }
    assert [source.name for source in walk_shard(shard)] == [f"{shard}/{name}" for name in MEMBERS]


def test_nothing_is_written(shard, tmp_path):
    for source in walk_shard(shard):
        source.load()
    assert list(tmp_path.iterdir()) == [shard]


def test_members_can_be_read_later_again_and_in_many_threads(shard):
    sources = list(walk_shard(shard)) * 50
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda source: source.load(), sources))
    assert found == list(MEMBERS.values()) * 50


def error_of(source):
    with pytest.raises(ImageError) as caught:
        source.load()
    return str(caught.value)


@pytest.mark.parametrize("kept", [0.05, 0.4, 0.7, 0.97])
def test_a_cut_shard_gives_what_was_before_the_cut_then_one_line(shard, kept):
    names = [source.name for source in walk_shard(shard)]
    content = shard.read_bytes()
    if shard.suffix == ".tar":
        content = content.rstrip(b"\0")  # without what fills it up to a whole record
    shard.write_bytes(content[: int(len(content) * kept)])
    *rest, last = walk_shard(shard)
    assert [source.name for source in rest] == names[: len(rest)]
    assert last.name == str(shard)
    assert error_of(last).startswith("damaged or cut short: ")
    assert "\n" not in error_of(last)


@pytest.mark.parametrize("place", [-8, -4])
def test_the_check_sum_of_a_compressed_tar_counts(tmp_path, place):
    path = tmp_path / "x.tgz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("1.png")
        member.size = 9
        archive.addfile(member, io.BytesIO(b"x" * 9))
    content = bytearray(path.read_bytes())
    content[place] ^= 1  # CRC-32, then the length, end the file: RFC 1952
    path.write_bytes(content)
    *_, last = walk_shard(path)
    assert last.name == str(path)
    assert error_of(last).startswith("damaged or cut short: ")


def test_a_tar_that_ends_between_two_pictures_says_so(tmp_path):
    path = tmp_path / "x.tar"
    with path.open("wb") as file:
        for name in ("1.png", "2.png"):
            member = tarfile.TarInfo(name)
            member.size = 512
            file.write(member.tobuf() + b"x" * 512)
    *pictures, shard = walk_shard(path)
    assert [source.load() for source in pictures] == [b"x" * 512] * 2
    assert error_of(shard) == "damaged or cut short: it has no end mark"


def test_a_tar_that_ends_inside_a_picture_says_so(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("1.png", "2.png"):
            member = tarfile.TarInfo(name)
            member.size = 5000
            archive.addfile(member, io.BytesIO(b"x" * 5000))
    path.write_bytes(path.read_bytes()[: 512 + 5120 + 512 + 1000])
    first, second, shard = walk_shard(path)
    assert first.load() == b"x" * 5000
    with pytest.raises(ImageError, match="the shard ends inside it"):
        second.load()
    with pytest.raises(ImageError, match="cut short"):
        shard.load()


def test_an_encrypted_zip_is_one_line(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("1.png", "2.png"):
            archive.writestr(name, b"x")
    content = bytearray(path.read_bytes())
    for signature, offset in (
        (b"PK\x01\x02", 8),
        (b"PK\x03\x04", 6),
    ):  # flags in both headers, APPNOTE 4.3.7 and 4.3.12
        position = -1
        while (position := content.find(signature, position + 1)) >= 0:
            content[position + offset] |= 1
    path.write_bytes(content)
    (source,) = walk_shard(path)
    assert source.name == str(path)
    with pytest.raises(ImageError, match="encrypted; decrypt it first"):
        source.load()


def test_damaged_members_do_not_hide_the_others(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.png", b"first of them")
        archive.writestr("2.png", b"second")
    path.write_bytes(path.read_bytes().replace(b"first of them", b"first of that"))
    first, second = walk_shard(path)
    with pytest.raises(ImageError, match="cannot be read: Bad CRC-32"):
        first.load()
    assert second.load() == b"second"


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tgz"])
@pytest.mark.parametrize("content", [b"", b"hello"])
def test_what_is_no_archive_is_one_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    (source,) = walk_shard(path)
    with pytest.raises(ImageError, match="damaged or cut short"):
        source.load()
    path.unlink()
    (source,) = walk_shard(path)
    with pytest.raises(ImageError, match="no such file"):
        source.load()


@pytest.mark.parametrize("name", ["x.tar", "x.tgz"])
def test_links_in_a_tar_are_never_followed(tmp_path, name):
    path = tmp_path / name
    (tmp_path / "secret.png").write_bytes(b"secret")
    with tarfile.open(path, "w" if name.endswith(".tar") else "w:gz") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            member = tarfile.TarInfo(f"{kind!r}.png")
            member.type, member.linkname = kind, str(tmp_path / "secret.png")
            archive.addfile(member)
    sources = list(walk_shard(path))
    assert len(sources) == 2
    for source in sources:
        with pytest.raises(ImageError, match="a link"):
            source.load()


def test_headers_do_not_pile_up(tmp_path, monkeypatch):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for index in range(200):
            archive.addfile(tarfile.TarInfo(f"{index}.png"))
    opened = []
    original = tarfile.open

    def watched(*arguments, **options):
        opened.append(original(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(tarfile, "open", watched)
    most = max(len(opened[0].members) for _ in walk_shard(path))
    assert most <= 1


def test_what_claims_to_be_huge_is_refused_unread(tmp_path):
    path = tmp_path / "x.tar"
    with path.open("wb") as file:
        member = tarfile.TarInfo("x.png")
        member.size = 1 << 40
        file.write(member.tobuf())
    first, *_ = walk_shard(path)
    with pytest.raises(ImageError, match="are more than"):
        first.load()


def test_names():
    assert [is_picture(name) for name in ("a/b.png", "../b.JPG", ".b.png", "a/.c/b.png", "b.txt", "png")] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]
    from pathlib import Path

    assert [is_shard(Path(name)) for name in ("a.zip", "a.TAR", "a.tar.gz", "a.tgz", "a.gz", "zip")] == [
        True,
        True,
        True,
        True,
        False,
        False,
    ]
    with pytest.raises(ImageError, match="why"):
        failed_source("x", "why").load()


def test_a_member_without_a_name_is_counted(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"one")
        archive.writestr("b.png", b"two")
    content = bytearray(path.read_bytes())
    at = content.find(b"PK\x01\x02")  # the first entry of the directory
    content[at + 28 : at + 30] = b"\0\0"  # the length of its name
    del content[at + 46 : at + 51]
    end = content.rfind(b"PK\x05\x06")
    size = int.from_bytes(content[end + 12 : end + 16], "little") - 5
    content[end + 12 : end + 16] = size.to_bytes(4, "little")
    path.write_bytes(content)
    left_out = LeftOut()
    assert [source.name for source in walk_shard(path, left_out)] == [f"{path}/b.png"]
    assert left_out == {"member without a name": 1}


@pytest.mark.parametrize(("name", "content"), [("x.tar", bytes(10240)), ("x.zip", b"PK\5\6" + bytes(18))])
def test_a_shard_that_holds_nothing_says_so(tmp_path, name, content):
    """Of a whole shard, not a word was said."""
    (tmp_path / name).write_bytes(content)
    (source,) = walk_shard(tmp_path / name)
    with pytest.raises(ImageError, match="holds no file"):
        source.load()


def test_a_directory_that_hides_members_is_said(tmp_path):
    """An entry whose comment swallows those behind it: zipfile reads on as if they had never been there."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("0.png", "1.png", "2.png"):
            archive.writestr(name, b"x")
    assert len(list(walk_shard(path))) == 3
    content = bytearray(path.read_bytes())
    entry = [at for at in range(len(content)) if content.startswith(b"PK\1\2", at)][1]
    content[entry + 32 : entry + 34] = b"\xff\xff"
    path.write_bytes(content)
    *members, last = walk_shard(path)
    assert [source.load() for source in members] == [b"x", b"x"]
    with pytest.raises(ImageError, match="its end promises 3 members, its directory has 2"):
        last.load()
