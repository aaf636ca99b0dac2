import numpy as np
import pytest
from PIL import Image

from lfm_deploy.suites.confounders import PROPERTIES, find_confounders, read_all_facts
from lfm_deploy.suites.labelled import LabelledImage, TestSet

EACH = 60


@pytest.fixture
def make_set(tmp_path):
    """A set of noise whose files are stored as a function of class and index says: size, name's end, options."""

    def make(store, name="set", each=EACH):
        rng = np.random.default_rng(0)
        images = []
        for label in (0, 1):
            for index in range(each):
                (width, height), end, options = store(label, index)
                path = tmp_path / name / f"{label}-{index}{end}"
                path.parent.mkdir(exist_ok=True)
                pixels = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
                pixels.convert(options.pop("mode", "RGB")).save(path, **options)
                images.append(LabelledImage(path, label))
        return TestSet(name, tuple(images))

    return make


def find(*sets, name="suite"):
    facts = read_all_facts([image.path for part in sets for image in part.images])
    return {(one.set, one.property): one for one in find_confounders(name, sets, facts)}


def varied(label, index):
    """Files of many kinds, the same mixture in both classes."""
    sides = ((32, 32), (40, 32), (32, 48))[index % 3]
    if index % 2:
        return sides, ".jpg", {"quality": 70 + 5 * (index % 5), "subsampling": ("4:4:4", "4:2:0")[index // 2 % 2]}
    return sides, ".png", {"mode": ("RGB", "L", "RGBA")[index % 3]}


def test_a_clean_set_has_none(make_set):
    assert not find(make_set(varied))


@pytest.mark.parametrize("seed", range(8))
def test_files_that_differ_by_chance_alone_are_no_confounder(make_set, seed):
    rng = np.random.default_rng(seed)

    def draw(label, index):
        return varied(label, int(rng.integers(1000)))

    assert not find(make_set(draw))


@pytest.mark.parametrize(
    ("planted", "store", "text"),
    [
        ("format", lambda label, index: ((32, 32), ".png" if label else ".jpg", {}), "all 60 JPEG files are real"),
        ("size", lambda label, index: ((32, 32 + 2 * (index % 5 + 5 * label)), ".png", {}), None),
        (
            "size",
            lambda label, index: ((32, 32) if label else (32 + index, 40), ".png", {}),
            "all 60 32x32 files are fake",
        ),
        (
            "quality",
            lambda label, index: ((32, 32), ".jpg", {"quality": 95 - 20 * label}),
            "all 60 JPEG files of q75 are fake",
        ),
        (
            "sampling",
            lambda label, index: ((32, 32), ".jpg", {"quality": 90, "subsampling": "4:4:4" if label else "4:2:0"}),
            "all 60 JPEG files of 4:2:0 are real",
        ),
        ("colour", lambda label, index: ((32, 32), ".png", {"mode": "P" if label else "RGB"}), "all 60 palette files"),
        ("metadata", lambda label, index: ((32, 32), ".jpg", {} if label else {"icc_profile": b"x"}), "files with"),
    ],
)
def test_a_planted_confounder_is_found_and_no_other(make_set, planted, store, text):
    found = find(make_set(store))
    assert {name for _, name in found} == {planted}
    (one,) = found.values()
    assert one.auc > 0.99
    assert text is None or text in one.text
    assert f"the {planted} alone tells real from fake with an AUC of" in str(one)


def test_a_property_that_tells_a_little_has_a_small_auc(make_set):
    # Nine of ten real files and one of ten fakes are JPEG: the AUC of a coin with 0.9 to 0.1 is 0.9.
    found = find(
        make_set(lambda label, index: ((32, 32), ".jpg" if (index % 10 > 0) != label else ".png", {}), each=100)
    )
    assert found["set", "format"].auc == pytest.approx(0.9, abs=0.02)  # folds have nearly the same shares
    assert found["set", "format"].text == "JPEG: 90 % of the real pictures, 10 % of the fakes"


def test_all_sets_together_come_first(make_set):
    sets = [make_set(lambda label, index: ((32, 32), ".png" if label else ".jpg", {}), name) for name in ("one", "two")]
    assert list(find(*sets)) == [("suite", "format"), ("one", "format"), ("two", "format")]
    assert find(*sets)["suite", "format"].text == "all 120 JPEG files are real"


def test_one_class_or_unreadable_files_are_no_reason(make_set, tmp_path):
    whole = make_set(varied)
    assert not find(TestSet("real", tuple(image for image in whole.images if image.label == 0)))
    for image in whole.images:
        image.path.write_bytes(b"broken")
    assert not find(whole)
    assert set(PROPERTIES) == {"format", "size", "quality", "sampling", "colour", "metadata"}
