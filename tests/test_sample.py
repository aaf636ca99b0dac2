import pytest

from calib.sample import order_pictures
from lfm_deploy.errors import SuiteError


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(pictures):
    return [picture.path.as_posix() for picture in pictures]


def test_categories_take_turns_within_a_class(tmp_path):
    make(tmp_path, *(f"{category}/0_real/{index}.png" for category in ("cat", "dog") for index in range(3)))
    make(tmp_path, "dog/0_real/3.png", "cat/1_fake/0.png")
    ordered = order_pictures(tmp_path, seed=0)
    assert set(ordered) == {0, 1}
    assert [name.split("/")[0] for name in names(ordered[0])] == ["cat", "dog"] * 3 + ["dog"]
    assert {picture.label for picture in ordered[0]} == {0}


def test_the_same_seed_gives_the_same_order_and_another_one_another(tmp_path):
    make(tmp_path, *(f"{index:02}.jpg" for index in range(40)))
    first, again, other = (names(order_pictures(tmp_path, seed)[None]) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert sorted(first) == sorted(other)


def test_beside_class_folders_other_pictures_are_left_out(tmp_path):
    make(tmp_path, "0_real/a.png", "1_fake/b.png", "c.png", "more/d.png")
    assert {label: names(found) for label, found in order_pictures(tmp_path, 0).items()} == {
        0: ["0_real/a.png"],
        1: ["1_fake/b.png"],
    }


def test_a_missing_and_an_empty_folder_say_what_to_do(tmp_path):
    with pytest.raises(SuiteError, match="no such folder; give the folder"):
        order_pictures(tmp_path / "none", 0)
    make(tmp_path, "notes.txt")
    with pytest.raises(SuiteError, match=r"no picture in it; put \.png or \.jpg files there"):
        order_pictures(tmp_path, 0)
