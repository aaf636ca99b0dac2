import csv

import pytest

from lfm_deploy.errors import SuiteError
from lfm_deploy.suites import GROUPS, describe_suites, load_suites


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"picture")


def make_published(root, spec):
    for name in spec.sets:
        fill(root / spec.folder / name, "0_real/a.png", "1_fake/b.png")


def refused(complaint, *arguments):
    with pytest.raises(SuiteError, match=complaint) as caught:
        load_suites(*arguments)
    return str(caught.value)


def test_the_published_suites_have_the_papers_sets(shared):
    specs = {spec.name: spec for spec in describe_suites()}
    assert sum(len(spec.sets) for spec in specs.values()) == 38
    assert {name for name, spec in specs.items() if spec.size == "native"} == {"GANGen-Detection"}
    with (shared / "published.csv").open() as file:
        rows = list(csv.DictReader(file))
    printed = {(row["suite"], row["test_set"]) for row in rows if row["test_set"] != "mean"}
    assert {suite for suite, _ in printed} == set(specs)
    # Every set that is legible in the paper is one of ours.
    assert all(name in specs[suite].sets for suite, name in printed)


@pytest.mark.parametrize("name", ["diffusion", "gan", "all", "forensynths", "GANGen-Detection"])
def test_names_and_groups_in_any_case(tmp_path, name):
    for spec in describe_suites():
        make_published(tmp_path, spec)
    suites = load_suites(name, tmp_path)
    expected = GROUPS.get(name) or [spec.name for spec in describe_suites() if spec.name.lower() == name.lower()]
    assert [suite.name for suite in suites] == list(expected)
    assert all(part.has_both_classes for suite in suites for part in suite.sets)


def test_missing_data_shows_the_expected_tree(tmp_path):
    spec = describe_suites()[2]
    make_published(tmp_path, spec)
    (tmp_path / spec.folder / "adm").rename(tmp_path / "elsewhere")
    message = refused("missing adm;", "DiffusionForensics", tmp_path)
    assert "├── ldm/[category/]{0_real,1_fake}/" in message
    assert spec.source in message


def test_the_data_folder_of_the_environment(tmp_path, monkeypatch):
    make_published(tmp_path, describe_suites()[4])
    monkeypatch.setenv("LFM_DATA", str(tmp_path))
    (suite,) = load_suites("Diffusion1kStep")
    assert [part.name for part in suite.sets] == list(describe_suites()[4].sets)


def test_an_unknown_name_lists_the_known(tmp_path):
    message = refused("neither a folder nor a suite", "toasters", tmp_path)
    assert "ForenSynths" in message
    assert "diffusion" in message


def test_a_folder_with_two_classes(tmp_path):
    fill(tmp_path / "mine", "0_real/a.png", "0_real/notes.txt", "1_fake/b.jpg", "1_fake/c.png")
    ((part,),) = [suite.sets for suite in load_suites(tmp_path / "mine")]
    assert [(image.path.name, image.label) for image in part.images] == [("a.png", 0), ("b.jpg", 1), ("c.png", 1)]


def test_a_folder_of_sets_with_categories(tmp_path):
    fill(tmp_path, "one/0_real/a.png", "one/1_fake/b.png", "two/car/0_real/a.png", "two/cat/1_fake/b.png")
    (suite,) = load_suites(tmp_path)
    assert [(part.name, len(part.images)) for part in suite.sets] == [("one", 2), ("two", 2)]


def test_categories_are_pooled_and_keep_their_names(tmp_path):
    fill(tmp_path, "two/cat/0_real/a.png", "two/cat/1_fake/b.png", "two/car/1_fake/c.png", "one/0_real/a.png")
    (suite,) = load_suites(tmp_path)
    one, two = suite.sets
    assert two.categories == ("car", "cat")
    assert [(image.category, image.label) for image in two.images] == [("cat", 0), ("car", 1), ("cat", 1)]
    assert (two.count(0), two.count(1)) == (1, 2)
    assert (one.categories, one.images[0].category) == ((), None)


def test_the_size_policy_is_ones_own_for_own_folders_alone(tmp_path):
    fill(tmp_path, "0_real/a.png", "1_fake/b.png")
    assert [load_suites(tmp_path)[0].size, load_suites(tmp_path, size="native")[0].size] == [256, "native"]
    for name in ("GANGen-Detection", "diffusion"):
        with pytest.raises(SuiteError, match="leave --size out"):
            load_suites(name, tmp_path, size="native")


def test_a_set_of_one_class_beside_complete_ones_is_kept(tmp_path):
    fill(tmp_path, "one/0_real/a.png", "one/1_fake/b.png", "real_only/0_real/a.png")
    (suite,) = load_suites(tmp_path)
    assert {part.name: part.has_both_classes for part in suite.sets} == {"one": True, "real_only": False}


def test_a_missing_class(tmp_path):
    fill(tmp_path, "0_real/a.png")
    refused(r"in 0_real/ but none in 1_fake/, so average precision is undefined", tmp_path)
    (tmp_path / "1_fake").mkdir()
    refused(r"none in 1_fake/", tmp_path)


def test_only_sets_of_one_class(tmp_path):
    fill(tmp_path, "x/0_real/a.png", "y/0_real/a.png")
    refused("no test set has pictures of both classes", tmp_path)


def test_no_classes_and_no_pictures(tmp_path):
    refused("no 0_real/ and 1_fake/", tmp_path)
    for name in ("0_real", "1_fake"):
        (tmp_path / name).mkdir()
    refused("no picture in 0_real/ and 1_fake/", tmp_path)


def test_a_link_that_leads_back_does_not_trap(tmp_path):
    fill(tmp_path, "0_real/a.png", "1_fake/b.png")
    (tmp_path / "1_fake" / "loop").symlink_to(tmp_path)
    ((part,),) = [suite.sets for suite in load_suites(tmp_path)]
    assert len(part.images) == 2
