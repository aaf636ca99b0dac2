import shutil

import numpy as np
import pytest
from PIL import Image

from lfm_deploy.errors import SuiteError
from lfm_deploy.pictures.images import read_image
from training.augmentation import Augmentation
from training.data import describe_unreadable, load_folders

AUGMENTATION = Augmentation(crop=24, flip=0)


def write_picture(path, seed, side=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def root(tmp_path):
    for number, (split, category, label, count) in enumerate(
        (split, category, label, 1 + (category == "cat"))
        for split in ("train", "val")
        for category in ("car", "cat")
        for label in ("0_real", "1_fake")
    ):
        for index in range(count):
            write_picture(tmp_path / split / category / label / f"{index}.png", 10 * number + index)
    return tmp_path


def load(root, classes=()):
    return load_folders(root, classes, 32, AUGMENTATION)


def test_pictures_are_resized_by_pillow_cropped_and_labelled(root):
    training = load(root).training
    assert training.labels.tolist() == [0, 0, 0, 1, 1, 1]
    picture = training.read(1, np.random.default_rng(0))
    resized = read_image(root / "train" / "cat" / "0_real" / "0.png", 32)
    places = [(top, left) for top in range(9) for left in range(9)]
    assert sum((resized[top : top + 24, left : left + 24] == picture).all() for top, left in places) == 1
    assert (training.read(1, np.random.default_rng(0)) == picture).all()


def test_validation_sees_pictures_as_deployed(root):
    validation = load(root).validation
    ((rows, images),) = validation.read_batches([4, 1], 8)
    assert rows == [4, 1]
    for row, image in zip(rows, images, strict=True):
        assert (image == read_image(validation.files.paths[row], 256)).all()


def test_categories_can_be_chosen_and_the_fingerprint_follows_the_files(root):
    whole, cats = load(root), load(root, ["cat"])
    assert cats.training.labels.tolist() == [0, 0, 1, 1]
    assert all("cat" in path.parts for path in cats.training.files.paths)
    assert load(root).sha256 == whole.sha256 != cats.sha256
    write_picture(root / "val" / "car" / "1_fake" / "0.png", 99, side=41)
    assert load(root).sha256 != whole.sha256


def test_a_split_may_have_its_classes_directly(root):
    for split in ("train", "val"):
        shutil.copytree(root / split / "cat", root / "flat" / split)
    assert load(root / "flat").training.labels.tolist() == [0, 0, 1, 1]


def test_an_unreadable_file_is_counted_and_the_next_of_its_class_takes_its_place(root):
    broken = root / "train" / "cat" / "1_fake" / "1.png"
    broken.write_bytes(b"not a picture")
    training = load(root).training
    (number,) = [index for index, path in enumerate(training.files.paths) if path == broken]
    instead = training.read(number, np.random.default_rng(0))
    # It is the last fake, so the first fake comes next.
    assert (instead == load(root).training.read(3, np.random.default_rng(0))).all()
    assert list(training.unreadable) == [str(broken)]
    assert "not a picture" in training.unreadable[str(broken)]


def test_unreadable_validation_files_are_left_out(root):
    broken = root / "val" / "car" / "0_real" / "0.png"
    broken.write_bytes(b"")
    validation = load(root).validation
    rows = [row for numbers, _ in validation.read_batches(range(6), 4) for row in numbers]
    assert rows == [1, 2, 3, 4, 5]
    assert validation.unreadable == {str(broken): "the file is empty"}


def test_a_class_of_which_nothing_can_be_read(root):
    for path in (root / "train").glob("*/1_fake/*"):
        path.write_text("text")
    training = load(root).training
    with pytest.raises(SuiteError, match="none of the pictures in 1_fake/ can be read"):
        training.read(4, np.random.default_rng(0))
    assert len(training.unreadable) == 3


def _no_root(root):
    shutil.rmtree(root)
    return "no such folder; --data"


def _no_validation(root):
    shutil.rmtree(root / "val")
    return "val: no such folder"


def _class_missing(root):
    shutil.rmtree(root / "train" / "cat" / "1_fake")
    return "no 1_fake/ in it"


def _empty_category(root):
    shutil.rmtree(root / "train" / "car" / "0_real")
    (root / "train" / "car" / "0_real").mkdir()
    return "car/0_real: no picture in it"


def _text_files(root):
    for path in (root / "train" / "car").rglob("*.png"):
        path.rename(path.with_suffix(".txt"))
    return "car/0_real: no picture in it"


def _no_category(root):
    shutil.rmtree(root / "train")
    (root / "train").mkdir()
    return "no category in it"


@pytest.mark.parametrize(
    "spoil", [_no_root, _no_validation, _class_missing, _empty_category, _text_files, _no_category]
)
def test_data_that_cannot_be_learnt_from(root, spoil):
    with pytest.raises(SuiteError, match=spoil(root)):
        load(root)


def test_a_category_that_is_not_there(root):
    with pytest.raises(SuiteError, match="no category horse; there are car, cat"):
        load(root, ["cat", "horse"])


def test_unreadable_files_are_listed_in_short():
    lines = describe_unreadable({f"{index}.png": "broken" for index in range(7)})
    assert lines[0] == "unreadable: 0.png: broken"
    assert lines[-1] == "... and 2 more could not be read"
    assert describe_unreadable({}) == []
