import itertools
import sys
import threading

import numpy as np
import pytest
from PIL import Image
from waiting import wait_for

from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import ImageError, InputError
from lfm_deploy.pictures.decoding import Source
from lfm_deploy.pictures.members import failed_source
from lfm_deploy.pictures.pipeline import read_groups
from lfm_deploy.pictures.sources import file_source

BROKEN = (3, 4, 9, 16)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """20 pictures of three sizes whose red is their number; four are broken."""
    folder = tmp_path_factory.mktemp("pipeline")
    for index in range(20):
        path = folder / f"{index:02}.png"
        if index in BROKEN:
            path.write_bytes(b"broken")
        else:
            Image.new("RGB", ((64, 64), (48, 64), (64, 96))[index // 7], (index, 0, 0)).save(path)
    return sorted(folder.iterdir())


def sources(paths):
    return [file_source(path) for path in paths]


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("batch", [1, 3, 8, 32])
@pytest.mark.parametrize("size", [64, "native"])
def test_groups_keep_the_order_and_lose_nothing(paths, size, batch, workers):
    groups = list(read_groups(sources(paths), size, batch=batch, workers=workers))
    assert [name for group in groups for name in group.names] == [str(path) for path in paths]
    assert [group.start for group in groups] == list(
        itertools.accumulate([0, *(len(group.names) for group in groups[:-1])])
    )
    found = {}
    for group in groups:
        assert len(group.names) <= batch
        assert group.reasons.keys() == {index - group.start for index in BROKEN} & set(range(len(group.names)))
        for offsets, images in group.runs:
            assert images.dtype == np.uint8
            assert len(offsets) == len(images)
            for offset, image in zip(offsets, images, strict=True):
                found[group.start + offset] = image
    assert list(found) == [index for index in range(20) if index not in BROKEN]
    for index, image in found.items():
        assert (image == (index, 0, 0)).all()
        assert size == 64 or image.shape[:2] == ((64, 64), (64, 48), (96, 64))[index // 7]


@pytest.mark.parametrize("size", [64, "native"])
def test_a_list_that_is_continued_behind_a_group_gives_the_same_groups(paths, size):
    whole = list(read_groups(sources(paths), size, batch=6))
    for position, group in enumerate(whole):
        rest = list(read_groups(sources(paths)[group.start :], size, batch=6, start=group.start))
        for mine, expected in zip(rest, whole[position:], strict=True):
            assert (mine.start, mine.names, mine.reasons) == (expected.start, expected.names, expected.reasons)
            for (offsets, images), (same, pixels) in zip(mine.runs, expected.runs, strict=True):
                assert offsets == same
                assert (images == pixels).all()


def test_at_native_size_a_group_of_large_pictures_is_small(tmp_path):
    Image.new("RGB", (1024, 1024)).save(tmp_path / "x.png")
    groups = list(read_groups([file_source(tmp_path / "x.png")] * 10, "native", batch=8))
    # Eight times 512x512 pixels are two times 1024x1024.
    assert [len(group.names) for group in groups] == [2] * 5


@pytest.mark.parametrize("size", [64, "native"])
def test_the_list_is_walked_no_further_than_three_groups(paths, size):
    asked, ahead = 0, []

    def endless():
        for index in itertools.count():
            ahead.append(index + 1 - 4 * asked)
            yield file_source(paths[index % 3])

    reader = read_groups(endless(), size, batch=4, workers=2)
    for _ in range(20):  # each takes the time to decode four pictures, in which a list could be walked far ahead
        asked += 1
        next(reader)
    # Beside the groups that were asked for, two are read ahead, and one source waits for its turn.
    assert max(ahead) <= 2 * 4 + 1
    reader.close()
    names = {thread.name.rpartition("_")[0] or thread.name for thread in threading.enumerate()}
    assert not {"read-image", "list-images"} & names


def has_settled():
    """Whether the thread that walks the list waits for its turn, and those that decode for work."""
    frames = sys._current_frames()
    threads = [one for one in threading.enumerate() if one.name.startswith(("list-images", "read-image"))]
    return {frames[one.ident].f_code.co_name for one in threads} == {"wait", "_worker"}


def test_large_pictures_do_not_pile_up_before_the_reader_takes_them(tmp_path):
    Image.new("RGB", (1024, 1024)).save(tmp_path / "x.png")
    loaded = []

    def source(index):
        return Source(str(index), lambda: loaded.append(index) or tmp_path / "x.png")

    reader = read_groups(map(source, range(64)), "native", batch=8, workers=2)
    next(reader)
    wait_for(has_settled)
    # One group of 2, the one that closed it, 4 that fill the window of 16 x 512 x 512, and 2 + 2 under way.
    assert len(loaded) <= 11
    reader.close()


def test_groups_come_while_the_list_is_still_being_written(paths):
    more = threading.Event()

    def slow():
        yield from sources(paths[:3])
        assert more.wait(timeout=20)
        yield from sources(paths[5:7])

    reader = read_groups(slow(), 64, batch=3)
    assert len(next(reader).names) == 3
    more.set()
    assert [len(group.names) for group in reader] == [2]


def test_decoding_goes_on_while_the_caller_works(paths):
    decoded = []
    started = threading.Event()

    def source(index):
        def load():
            decoded.append(index)
            if index == 7:
                started.set()
            return paths[0]

        return Source(str(index), load)

    reader = read_groups(map(source, range(8)), 64, batch=4, workers=1)
    next(reader)
    assert started.wait(timeout=20)  # the second group is read although nobody asked for it yet
    reader.close()


def test_an_error_of_the_list_itself_reaches_the_caller(paths):
    def cut():
        yield from sources(paths[:2])
        raise InputError("list.txt: gone")

    with pytest.raises(InputError, match="gone"):
        list(read_groups(cut(), 64, batch=8))


def test_only_broken_pictures_still_come_out():
    (group,) = read_groups([failed_source("a", "no"), failed_source("b", "none")], 64, batch=8)
    assert (group.names, group.reasons, group.runs) == (["a", "b"], {0: "no", 1: "none"}, [])


def test_an_empty_list_has_no_groups():
    assert list(read_groups([], 64, batch=8)) == []


def test_a_fault_that_is_no_pictures_stops_the_run(paths):
    def exhausted():
        raise MemoryError

    with pytest.raises(MemoryError):
        list(read_groups([*sources(paths[:2]), Source("x", exhausted)], 64, batch=8, config=ModelConfig()))


def test_a_pictures_own_reason_is_kept():
    def load():
        raise ImageError("too tired")

    (group,) = read_groups([Source("x", load)], 64, batch=1)
    assert group.reasons == {0: "too tired"}


@pytest.mark.parametrize("size", [32, "native"])
def test_pictures_are_decoded_as_the_caller_says(paths, size):
    def decode(content, slot):
        pixels = np.full((32, 32, 3), int(content.stem), np.uint8)
        if slot is None:
            return pixels
        slot[...] = pixels
        return slot

    groups = list(read_groups(sources(paths), size, batch=8, decode=decode))
    images = np.concatenate([images for group in groups for _, images in group.runs])
    assert images.shape == (20, 32, 32, 3)
    assert images[:, 0, 0, 0].tolist() == list(range(20))
