import PIL
import pytest
from PIL import Image
from portraits import SHAPES, digest, make_picture

from lfm_deploy.pictures.resizing import resize_picture

# By tests/portraits.py with Pillow 12.3.0 and 10.4.0, which agree.
EXPECTED = {
    "BILINEAR": [
        "67c787f1e794727f",
        "a899f997a3c28941",
        "1c53373bde76d6cd",
        "b44cd9f40e4dafc0",
        "3756ecf5a4f91715",
        "f5287adc315c83ae",
        "b6ef9262bc496444",
        "0b4370d4d10b57df",
        "f9ded21495a939cc",
        "f2e14f4eea3b0f6a",
        "718257d77174e3ec",
        "d992be56954e3ead",
    ],
    "BICUBIC": [
        "6593422ce7c9182e",
        "d77f41a734d6b815",
        "f96d94ccf5794c77",
        "8a6d17b64ee57e2e",
        "55425d924dd812a2",
        "5b6796a0f121a081",
        "40afbc68bd56e860",
        "719cd41373997876",
        "f652cb089a30cf56",
        "1c92b0727999cc8c",
        "4aa03982bb463755",
        "3fbf6a927488486b",
    ],
    "LANCZOS": [
        "9e97ee54d98cb0fd",
        "0098a91bd96036e1",
        "87cd29c471a13cf4",
        "cfef4f5513db1a77",
        "a2b9e95044b03aa0",
        "481aff6cc7c2a3b2",
        "fc99f1dfb6ec6879",
        "e908adbd2af698f9",
        "5243da2cfcdd58e4",
        "41308f66977cd39b",
        "b5fde3eb83351770",
        "2bf44b393140ebdf",
    ],
}
CASES = [(name, was, to, EXPECTED[name][at]) for name in EXPECTED for at, (was, to) in enumerate(SHAPES)]


@pytest.mark.parametrize(("name", "was", "to", "expected"), CASES)
def test_pixels_are_those_of_pillow_12_whatever_is_installed(name, was, to, expected):
    found = resize_picture(make_picture(*was), *to, Image.Resampling[name])
    assert found.size == to
    assert digest(found) == expected


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="this Pillow takes the width first by itself")
def test_pillow_13_by_itself_gives_others():
    """Else nothing here would show that the order of the passes matters."""
    differ = [digest(make_picture(*was).resize(to, Image.Resampling.BILINEAR)) for was, to in SHAPES]
    assert [at for at, found in enumerate(differ) if found != EXPECTED["BILINEAR"][at]] == [0, 1, 2, 3, 4]


def test_what_has_the_size_already_is_not_copied():
    picture = make_picture(64, 48)
    assert resize_picture(picture, 64, 48) is picture
