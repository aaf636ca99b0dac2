import bz2
import gzip
import io
import lzma
import tarfile

import pytest

from lfm_deploy.errors import ImageError
from lfm_deploy.pictures.left_out import LeftOut
from lfm_deploy.pictures.shards import walk_shard

PICTURES = {f"{index}.png": bytes([index]) * 700 for index in range(6)}
PACKERS = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress, "none": lambda content: content}


def write_tar(path, pictures=PICTURES, links=()):
    with tarfile.open(path, "w") as archive:
        for name, content in pictures.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target, kind in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    return path


def answers(path, left_out=None):
    found = {}
    for source in walk_shard(path, left_out):
        try:
            found[source.name.removeprefix(f"{path}/")] = source.load()
        except ImageError as error:
            found[source.name.removeprefix(f"{path}/")] = str(error)
    return found


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz", "x.tar.xz", "x.tar.bz2"])
def test_the_first_bytes_say_how_it_is_compressed(tmp_path, packed, name):
    path = write_tar(tmp_path / name)
    path.write_bytes(PACKERS[packed](path.read_bytes()))
    assert answers(path) == PICTURES


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("byte", [0, 150, 156, 500])
def test_a_damaged_header_is_said_and_not_taken_for_the_end(tmp_path, packed, byte):
    """tarfile ends there in silence: all later pictures were dropped with exit code 0."""
    path = write_tar(tmp_path / "x.tar")
    with tarfile.open(path) as archive:
        offset = archive.getmembers()[3].offset
    content = bytearray(path.read_bytes())
    content[offset + byte] ^= 1
    path.write_bytes(PACKERS[packed](bytes(content)))
    found = answers(path)
    assert found.pop(str(path)) == f"damaged or cut short: a damaged header at byte {offset}"
    assert found == {name: PICTURES[name] for name in ("0.png", "1.png", "2.png")}


@pytest.mark.parametrize("packed", PACKERS)
def test_a_size_below_zero_costs_the_members_behind_it_alone(tmp_path, packed):
    """It led backwards, and ended the whole command: other shards and pictures had no verdict."""
    path = write_tar(tmp_path / "x.tar")
    with tarfile.open(path) as archive:
        offset = archive.getmembers()[2].offset
    content = bytearray(path.read_bytes())
    content[offset + 124 : offset + 136] = b"-0000000001\0"
    content[offset + 148 : offset + 156] = b" " * 8
    content[offset + 148 : offset + 156] = b"%06o\0 " % sum(content[offset : offset + 512])
    path.write_bytes(PACKERS[packed](bytes(content)))
    found = answers(path)
    assert found.pop(str(path)) == f"damaged or cut short: a damaged header at byte {offset}: a member of -1 bytes"
    assert found == {name: PICTURES[name] for name in ("0.png", "1.png")}


@pytest.mark.parametrize("packed", PACKERS)
def test_what_stands_behind_the_end_mark_is_said(tmp_path, packed):
    """As ``cat a.tar b.tar`` makes it."""
    first, second = write_tar(tmp_path / "a.tar"), write_tar(tmp_path / "b.tar", {"late.png": b"late"})
    path = tmp_path / "x.tar"
    path.write_bytes(PACKERS[packed](first.read_bytes() + second.read_bytes()))
    found = answers(path)
    assert "more stands behind its end mark, at byte 10240, which is not read" in found.pop(str(path))
    assert found == PICTURES


@pytest.mark.parametrize("packed", PACKERS)
def test_zeros_behind_the_end_mark_are_padding(tmp_path, packed):
    path = write_tar(tmp_path / "x.tar")
    path.write_bytes(PACKERS[packed](path.read_bytes() + bytes(3 << 20)))
    assert answers(path) == PICTURES


@pytest.mark.parametrize("packed", PACKERS)
def test_a_hard_link_has_its_pictures_content(tmp_path, packed):
    links = [
        ("again.png", "2.png", tarfile.LNKTYPE),
        ("lost.png", "none.png", tarfile.LNKTYPE),
        ("soft.png", "2.png", tarfile.SYMTYPE),
    ]
    path = write_tar(tmp_path / "x.tar", links=links)
    path.write_bytes(PACKERS[packed](path.read_bytes()))
    found = answers(path)
    assert found["again.png"] == PICTURES["2.png"]
    assert "a link inside a shard to what is not in it" in found["lost.png"]
    assert "which is not read" in found["soft.png"]
    assert {name: found[name] for name in PICTURES} == PICTURES


def test_members_that_are_no_pictures_are_counted(tmp_path):
    path = write_tar(tmp_path / "x.tar", PICTURES | {"notes.txt": b"", "labels": b"", ".hidden.png": b"", "a.txt": b""})
    left_out = LeftOut()
    assert answers(path, left_out) == PICTURES
    assert left_out.describe() == "left out: 2 .txt, 1 file without a suffix, 1 hidden file"
