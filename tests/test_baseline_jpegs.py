import io

import numpy as np
import pytest
from PIL import Image

from lfm_deploy.pictures.baseline_jpegs import find_whole_baseline
from lfm_deploy.pictures.photographs import sample_tiles


def saved(size=(97, 63), mode="RGB", **options):
    stream = io.BytesIO()
    Image.fromarray(sample_tiles(size[1], size[0], 1)[0]).convert(mode).save(stream, format="JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (97, 63), (256, 256)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subsampling": 0},
        {"subsampling": 1, "restart_marker_blocks": 1},
        {"subsampling": 2, "restart_marker_rows": 1},
        {"subsampling": 0, "restart_marker_blocks": 3},
        {"mode": "L"},
        {"mode": "L", "restart_marker_blocks": 2},
        {"comment": b"\xff\xd9 in a comment"},
        {"optimize": True},
    ],
)
def test_whole_files_are_whole(options, size):
    assert find_whole_baseline(saved(size, **options)) == size


@pytest.mark.parametrize("options", [{"progressive": True}, {"mode": "CMYK"}, {"keep_rgb": True}])
def test_other_kinds_are_left_to_others(options):
    assert not find_whole_baseline(saved(**options))


def test_channels_that_adobe_says_are_not_transformed_are_left_to_others():
    marker = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"
    content = saved()
    for transform, taken in ((1, True), (0, False), (2, False)):
        marked = content[:2] + marker + bytes([transform]) + content[2:]
        assert (find_whole_baseline(marked) is not None) == taken
    grey = saved(mode="L")
    assert find_whole_baseline(grey[:2] + marker + b"\0" + grey[2:]) is not None


def test_every_cut_is_noticed():
    content = saved(restart_marker_blocks=2)
    assert not any(find_whole_baseline(content[:end]) for end in range(len(content)))
    assert not any(find_whole_baseline(content[:end] + b"\xff\xd9") for end in range(300))
    assert not find_whole_baseline(content + b"\n")


def test_markers_that_appear_or_vanish_are_noticed():
    content = saved(restart_marker_blocks=2)
    scan = content.index(b"\xff\xda") + 14
    places = [at for at in range(scan, len(content) - 2) if content[at] == 0xFF and content[at + 1] != 0]
    assert places
    for at in places:
        assert not find_whole_baseline(content[:at] + content[at + 2 :])  # vanished
        changed = bytearray(content)
        changed[at + 1] ^= 1
        assert not find_whole_baseline(bytes(changed))  # out of order
    for at in np.random.default_rng(0).integers(scan, len(content) - 4, 100):
        assert not find_whole_baseline(content[:at] + b"\xff\xd3" + content[at:])
        assert not find_whole_baseline(content[:at] + b"\xff\xc4" + content[at:])


def test_nothing_is_too_odd_to_ask():
    rng = np.random.default_rng(0)
    whole = saved()
    for _ in range(2000):
        content = bytearray(whole)
        for place in rng.integers(2, 640, 3):
            content[place] = rng.integers(256)
        find_whole_baseline(bytes(content))
    for content in (b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xda\0\2\xff\xd9", b"\x89PNG"):
        assert not find_whole_baseline(content)
