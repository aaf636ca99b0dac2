import shutil
import subprocess
import sys

import pytest
from PIL import Image

from calib.calibration import calibrate_into, load_pictures
from calib.pictures import PictureStore, hash_pixels
from calib.ranges import read_ranges
from export.graph import ExportConfig
from lfm_deploy.artifacts import InputForm, Precision, read_graph_info
from lfm_deploy.deployment.deployment import export_into
from lfm_deploy.errors import ArtifactError, ConfigError, SuiteError
from lfm_deploy.pictures.images import read_image
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.workdir import Workdir


@pytest.fixture
def exported(own_tile_workdir):
    return own_tile_workdir


@pytest.fixture
def folder(calibration_folder, tmp_path):
    """A copy of the pictures that a test may change."""
    shutil.copytree(calibration_folder, tmp_path / "pictures")
    return tmp_path / "pictures"


def test_the_same_seed_gives_the_same_file_and_another_one_another(exported, calibration_folder):
    texts = []
    for seed in (0, 0, 1):
        calibrate_into(exported, calibration_folder, count=40, seed=seed)
        texts.append(exported.ranges.read_text())
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_provenance_is_of_what_was_used(calibrated, calibration_folder, small_config):
    ranges = read_ranges(calibrated.ranges)
    assert ranges.onnx_sha256 == sha256_of_file(calibrated.graph(Precision.FP32))
    assert ranges.checkpoint_sha256 == sha256_of_file(calibrated.checkpoint)
    assert ranges.contract == read_graph_info(calibrated.graph(Precision.FP32)).contract
    for picture in ranges.pictures[:3]:
        pixels = read_image(calibration_folder / picture.path, 64, small_config)
        assert hash_pixels(pixels) == picture.sha256


def test_the_sample_is_balanced_and_spread_over_categories(exported, calibration_folder):
    ranges = calibrate_into(exported, calibration_folder, count=41).ranges
    assert ranges.classes == {"real": 20, "fake": 20}  # one of each, or none
    homes = [picture.path.rpartition("/")[0] for picture in ranges.pictures]
    assert {home: homes.count(home) for home in set(homes)} == dict.fromkeys(
        ["cats/0_real", "cats/1_fake", "dogs/0_real", "dogs/1_fake"], 10
    )


def test_a_flat_folder_has_no_labels(exported, calibration_folder, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in calibration_folder.rglob("*.png"):
        shutil.copy(path, flat)
    ranges = calibrate_into(exported, flat, count=32).ranges
    assert ranges.classes == {"unlabelled": 32}


def test_repeated_and_unreadable_pictures_are_skipped_with_the_reason(exported, folder):
    first, second, third = sorted((folder / "cats" / "0_real").iterdir())[:3]
    shutil.copy(first, second)
    third.write_bytes(b"no picture")
    made = calibrate_into(exported, folder, count=96)
    reasons = {picture.path.name: picture.reason for picture in made.skipped}
    assert len(made.skipped) == 2
    assert "cannot" in reasons[third.name] or "not" in reasons[third.name]
    (repeated,) = set(reasons) - {third.name}
    assert reasons[repeated].startswith("the same pixels as cats/0_real/")
    assert made.ranges.classes == {"real": 46, "fake": 46}


def test_fewer_than_32_usable_pictures_are_an_error_that_leaves_no_file(exported, folder):
    for path in sorted((folder / "dogs" / "1_fake").iterdir()) + sorted((folder / "cats" / "1_fake").iterdir())[:9]:
        path.write_bytes(b"")
    with pytest.raises(SuiteError, match=r"30 pictures can be used, as many of each class \(33 cannot .*at least 32"):
        calibrate_into(exported, folder)
    assert not exported.ranges.exists()
    with pytest.raises(ConfigError, match="need at least 32"):
        calibrate_into(exported, folder, count=31)


def test_fewer_than_128_pictures_warn(exported, calibration_folder):
    messages = []
    calibrate_into(exported, calibration_folder, count=32, on_message=messages.append)
    assert messages == ["Warning: 32 pictures are few; 128 or more describe better what production sees"]


def test_pictures_of_one_source_warn_that_nobody_can_speak_of_others(exported, calibration_folder, tmp_path):
    shutil.copytree(calibration_folder / "cats", tmp_path / "cats")
    messages = []
    made = calibrate_into(exported, tmp_path / "cats", count=40, on_message=messages.append)
    assert "of each class all pictures are of one source" in messages[-1]
    assert (len(made.ranges.folds), made.ranges.sources) == (2, {"0_real": 20, "1_fake": 20})
    for label in (0, 1):
        assert [picture.fold for picture in made.ranges.pictures if picture.label == label] == [0, 1] * 10


def test_missing_pieces_say_what_to_run(tmp_path, small_checkpoint, calibration_folder):
    with pytest.raises(ArtifactError, match="nothing has been exported here; run 'lfm-deploy export"):
        calibrate_into(Workdir(tmp_path / "none"), calibration_folder)
    workdir = Workdir(tmp_path / "float")
    export_into(workdir, small_checkpoint, ExportConfig(size=64, input=InputForm.FLOAT), lambda _: None)
    with pytest.raises(ArtifactError, match=r"takes normalised input, and INT8 needs raw .*without --input float"):
        calibrate_into(workdir, calibration_folder)


def test_pictures_are_read_again_only_with_the_same_pixels(calibrated, folder, small_config):
    ranges = read_ranges(calibrated.ranges)
    with PictureStore() as store:
        load_pictures(ranges, folder, small_config, store)
        assert len(store) == 96
    changed, gone = folder / ranges.pictures[3].path, folder / ranges.pictures[5].path
    gone.unlink()
    with PictureStore() as store, pytest.raises(ArtifactError, match=f"{gone.name}.*with --images, or run 'lfm-deploy"):
        load_pictures(ranges, folder, small_config, store)
    Image.new("RGB", (64, 64)).save(changed)
    with PictureStore() as store, pytest.raises(ArtifactError, match=f"{changed.name}: its pixels have changed since"):
        load_pictures(ranges, folder, small_config, store)


def test_memory_does_not_grow_with_the_number_of_pictures(exported, calibration_folder):
    import tracemalloc

    peaks = []

    def watch(what, done, _total):
        # From the first picture to the last activation; the search for ranges works on histograms.
        if what == "reading pictures" and not tracemalloc.is_tracing():
            tracemalloc.start()
        if what == "choosing ranges" and done == 0:
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            raise KeyboardInterrupt  # what follows is not measured

    for count in (32, 96):
        with pytest.raises(KeyboardInterrupt):
            calibrate_into(exported, calibration_folder, count=count, on_progress=watch)
    # 64 pictures more are 0.8 MB of pixels and 26 MB of first activations: neither is held.
    assert peaks[1] < peaks[0] + 0.4e6


def test_calibrating_loads_neither_pytorch_nor_what_takes_a_second_of_scipy():
    script = (
        "import sys, calib.calibration, calib.flip_estimate\n"
        "print([name for name in ('torch', 'scipy.stats', 'sklearn') if name in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"
