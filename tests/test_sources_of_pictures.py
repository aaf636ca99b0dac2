"""Sources of calibration pictures, and which are left out together."""

from calib.sources import assign_folds, find_sources, join_small_sources


def named(folder, word, count):
    return [f"{folder}/{word}{number:04}.png" for number in range(count)]


def test_a_folder_is_a_source_and_words_in_names_are():
    paths = [*named("0_real", "photo_", 8), *named("1_fake", "cyclegan-", 6), *named("1_fake", "dalle 2_", 6)]
    assert find_sources(paths) == ["0_real"] * 8 + ["1_fake/cyclegan"] * 6 + ["1_fake/dalle 2"] * 6


def test_names_that_are_all_different_say_nothing():
    assert set(find_sources([f"1_fake/{hash(f'x{n}'):x}.png" for n in range(40)])) == {"1_fake"}
    assert set(find_sources(named("1_fake", "", 40))) == {"1_fake"}
    assert find_sources(["a.png", "b.png"]) == [".", "."]


def test_few_pictures_of_a_class_are_put_together_and_never_with_another_class():
    sources = ["real"] * 20 + ["a"] * 12 + ["b"] * 3 + ["c"] * 2 + ["d"] * 4
    joined = join_small_sources(sources, [0] * 20 + [1] * 21)
    assert joined == ["real"] * 20 + ["a"] * 12 + ["b + c + d"] * 9
    few = join_small_sources(["real"] * 20 + ["a"] * 2, [0] * 20 + [1] * 2)
    assert few == ["real"] * 20 + ["a"] * 2


def test_no_more_than_four_sources_of_a_class_are_left_out():
    sources = [f"generator {number}" for number in range(9) for _ in range(10)]
    assert len(set(join_small_sources(sources, [1] * 90))) == 4


def test_a_source_is_left_out_whole_and_the_only_one_of_its_class_in_parts():
    sources, labels = ["real"] * 9 + ["a"] * 8 + ["b"] * 8 + ["c"] * 8, [0] * 9 + [1] * 24
    folds = assign_folds(sources, labels)
    assert folds == [0, 1, 2] * 3 + [0] * 8 + [1] * 8 + [2] * 8


def test_where_nothing_can_be_spared_each_half_judges_the_other():
    assert assign_folds(["real", "real", "fake", "fake", "real"], [0, 0, 1, 1, 0]) == [0, 1, 0, 1, 0]
    assert assign_folds(["."] * 4, [None] * 4) == [0, 1, 0, 1]
