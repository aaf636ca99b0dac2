"""Lists in parts: every picture in one part, the same parts everywhere."""

import itertools
import shutil
import tarfile
import zipfile

import pytest

from lfm_deploy.errors import InputError
from lfm_deploy.pictures.images import find_images
from lfm_deploy.pictures.left_out import LeftOut
from lfm_deploy.pictures.sources import find_sources
from lfm_deploy.prediction.parts import find_parts


@pytest.fixture
def there(pictures, tmp_path, monkeypatch):
    """A folder with others below it, a tar and a zip, single pictures and a list of all kinds."""
    monkeypatch.chdir(tmp_path)
    paths = find_images(pictures)[:12]
    for index, path in enumerate(paths):
        folder = tmp_path / ("photos/inner" if index % 3 else "photos")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"{index:02}.png")
    (tmp_path / "photos" / "notes.txt").touch()
    with tarfile.open("one.tar", "w") as file:
        file.add("photos/00.png")
        file.add("photos/03.png")
    with zipfile.ZipFile("two.zip", "w") as archive:
        archive.write("photos/06.png")
    (tmp_path / "list.txt").write_text("a.png\none.tar\nphotos\nno such.png\n\ntwo.zip\nb.png\n")
    return tmp_path


def names(sources):
    return [source.name for source in sources]


@pytest.mark.parametrize("most", [1, 2, 5, 100])
@pytest.mark.parametrize(
    "paths", [["photos"], ["@list.txt"], ["photos/*.png", "*.tar", "nothing*.jpg", "photos/inner"]]
)
def test_parts_behind_each_other_are_the_list(there, paths, most):
    left_out, wanted = LeftOut(), LeftOut()
    found = [names(part.walk(left_out)) for part in find_parts(paths, left_out=left_out, most=most)]
    assert [*itertools.chain(*found)] == names(find_sources(paths, left_out=wanted))
    assert left_out == wanted


def test_a_shard_is_a_part_and_pictures_between_shards_are_cut_into_parts(there):
    parts = list(find_parts([], ["list.txt"], most=5))
    assert [(part.name, part.shard is not None, len(part.entries)) for part in parts] == [
        ("a.png", False, 1),
        ("one.tar", True, 1),
        ("photos/00.png and 4 more", False, 5),
        ("photos/inner/02.png and 4 more", False, 5),
        ("photos/inner/10.png and 2 more", False, 3),
        ("two.zip", True, 1),
        ("b.png", False, 1),
    ]


def test_no_shard_is_opened_and_none_has_to_be_there(there):
    before = [(part.file_name, part.sha256) for part in find_parts(["one.tar", "two.zip"])]
    (there / "one.tar").write_bytes(b"damaged")
    (there / "two.zip").unlink()
    (there / "l.txt").write_text("one.tar\ntwo.zip\n")
    assert [(part.file_name, part.sha256) for part in find_parts(["@l.txt"])] == before


def test_file_names_are_safe_and_tell_parts_apart(there):
    shards = ["a/x.tar", "b/x.tar", "b/x.zip", "ü ?/\udcff;.tar", "..tar", f"{'n' * 300}.tar", "-rf.tar"]
    (there / "l.txt").write_bytes("\n".join(shards).encode("utf-8", "surrogateescape"))
    found = [part.file_name for part in find_parts(["@l.txt"])]
    assert len(set(found)) == len(shards)
    for name in found:
        assert name.isascii()
        assert not set(name) & set("/ ;?")
        assert name[0] not in ".-"
        assert len(name) <= 255
    assert found[0].startswith("x.tar-")


def test_a_part_that_is_cut_elsewhere_is_another_one(there):
    first, *_ = find_parts(["photos"], most=3)
    other, *_ = find_parts(["photos"], most=4)
    assert first.sha256 != other.sha256


def test_what_comes_twice_is_refused(there):
    with pytest.raises(InputError, match=r"one\.tar: comes twice"):
        list(find_parts(["one.tar", "two.zip", "one.tar"]))


@pytest.mark.parametrize("paths", [["nothing-there"], ["@nothing.txt"], ["empty"]])
def test_nothing_to_read_is_refused(there, paths):
    (there / "empty").mkdir()
    with pytest.raises(InputError):
        list(find_parts(paths))
