from collections import Counter
from pathlib import Path

import pytest

from lfm_deploy.errors import SuiteError
from lfm_deploy.exploration.specimens import Specimen, draw_sample, find_specimens, share_out


def fill(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def described(specimens):
    return [(specimen.path.name, specimen.label, specimen.test_set) for specimen in specimens]


def test_labels_and_test_sets_come_from_folders(tmp_path):
    fill(tmp_path / "w", "gan/0_real/a.png", "gan/cat/1_fake/b.png", "plain/c.png", "d.png", "notes.txt")
    assert described(find_specimens(tmp_path / "w", size=64)) == [
        ("d.png", None, "w"),
        ("a.png", 0, "gan"),
        ("b.png", 1, "gan"),
        ("c.png", None, "plain"),
    ]
    assert described(find_specimens(tmp_path / "w" / "gan")) == [("a.png", 0, "gan"), ("b.png", 1, "cat")]
    # One class alone: verify could not judge it, here it is welcome.
    assert described(find_specimens(tmp_path / "w" / "gan" / "0_real")) == [("a.png", 0, "0_real")]
    assert {specimen.size for specimen in find_specimens(tmp_path / "w", size=64)} == {64}


def test_suites_keep_their_size_and_groups_keep_apart_what_has_one_name(tmp_path):
    from lfm_deploy.suites import GROUPS, describe_suites

    for spec in describe_suites():
        for name in spec.sets:
            fill(tmp_path / spec.folder / name, "0_real/a.png", "1_fake/b.png")
    native = find_specimens("GANGen-Detection", tmp_path)
    assert {specimen.size for specimen in native} == {"native"}
    assert {specimen.test_set for specimen in native} >= {"AttGAN", "STGAN"}
    group = find_specimens("diffusion", tmp_path)
    assert {"DiffusionForensics/ddpm", "Diffusion1kStep/ddpm"} <= {specimen.test_set for specimen in group}
    assert {specimen.test_set.split("/")[0] for specimen in group} == set(GROUPS["diffusion"])


def test_an_empty_folder_and_an_unknown_name(tmp_path):
    with pytest.raises(SuiteError, match="no picture in it"):
        find_specimens(fill(tmp_path, "notes.txt"))
    with pytest.raises(SuiteError, match="neither a folder nor a suite"):
        find_specimens("nothing")


def many(**counts):
    """``real_a=3``: three real pictures of test set a."""
    labels = {"real": 0, "fake": 1, "none": None}
    return [
        Specimen(path=Path(f"{name}/{index}.png"), label=labels[name[:4]], test_set=name[5:], size=256)
        for name, count in counts.items()
        for index in range(count)
    ]


def test_a_sample_is_balanced_over_classes_and_then_over_test_sets():
    specimens = many(real_a=100, real_b=3, fake_a=50, fake_b=50, fake_c=500)
    sample = draw_sample(specimens, 60, seed=0)
    counts = Counter((specimen.label, specimen.test_set) for specimen in sample)
    assert counts == {(0, "a"): 27, (0, "b"): 3, (1, "a"): 10, (1, "b"): 10, (1, "c"): 10}
    assert sample == [specimen for specimen in specimens if specimen in sample]
    assert draw_sample(specimens, 60, seed=0) == sample
    assert draw_sample(specimens, 60, seed=1) != sample
    assert draw_sample(specimens, 10_000, seed=0) == specimens


def test_pictures_without_a_label_have_a_share_of_their_own():
    sample = draw_sample(many(real_a=9, none_a=9, fake_a=2), 12, seed=0)
    assert Counter(specimen.label for specimen in sample) == {0: 5, None: 5, 1: 2}


@pytest.mark.parametrize(
    ("total", "sizes", "shares"),
    [
        (10, [5, 5, 5], [4, 3, 3]),
        (10, [1, 20, 20], [1, 5, 4]),
        (10, [2, 3], [2, 3]),
        (0, [4], [0]),
        (2, [0, 9, 0, 9, 9], [0, 1, 0, 1, 0]),
    ],
)
def test_shares_are_as_even_as_sizes_allow(total, sizes, shares):
    assert share_out(total, sizes) == shares
