import numpy as np
import pytest
from PIL import Image

from lfm_deploy.benchmark.file_rates import FileFigures, Pictures, find_pictures, measure_files
from lfm_deploy.benchmark.rounds import Effort
from lfm_deploy.benchmark.sweep import Contender
from lfm_deploy.errors import InputError
from lfm_deploy.pictures.photographs import sample_tiles


def test_shares_are_of_decoding_and_the_engine_one_after_the_other():
    # 1 / (1/100 + 1/300) is 75 a second.
    figures = FileFigures(batch=8, fps=[60.0, 75.0, 90.0], engine_fps=[100.0] * 3, decoding_fps=[300.0] * 3)
    assert figures.share == pytest.approx(1.0)
    assert figures.spread == pytest.approx(30 / 75)
    assert figures.bound_by() == "engine"
    figures.decoding_fps = [50.0] * 3
    assert figures.bound_by() == "decoding"


def test_an_engine_on_a_gpu_leaves_the_cores_to_decoding():
    figures = FileFigures(
        batch=8, on_gpu=True, fps=[90.0, 80.0], engine_fps=[100.0, 900.0], decoding_fps=[300.0, 100.0]
    )
    assert figures.share == pytest.approx(0.85)


def test_shares_are_taken_round_by_round():
    # The machine halves its speed in the second round: fps and its limit alike.
    figures = FileFigures(batch=8, fps=[50.0, 25.0], engine_fps=[100.0, 50.0], decoding_fps=[100.0, 50.0])
    assert figures.share == pytest.approx(1.0)


def test_pictures_are_made_where_none_are_given():
    with find_pictures(None, 64) as pictures:
        folder = pictures.paths[0].parent
        suffixes = [path.suffix for path in pictures.paths]
        assert (suffixes.count(".png"), suffixes.count(".jpg")) == (32, 32)
        assert pictures.what == "tiles of photographs, 64x64, 32 PNG and 32 JPEG"
        with Image.open(pictures.paths[0]) as first:
            np.testing.assert_array_equal(np.asarray(first), sample_tiles(64, 64, 64)[0])
        with Image.open(pictures.paths[1]) as second:
            assert second.format == "JPEG"
    assert not folder.exists()


def test_a_folder_gives_its_pictures(pictures, tmp_path):
    with find_pictures(pictures, 256) as found:
        assert len(found.paths) == 24
    with pytest.raises(InputError, match=r"no picture in it; give a folder"), find_pictures(tmp_path, 256):
        pass
    assert pictures.is_dir()


@pytest.fixture
def one(small_graph):
    return Contender(name="fp32", path=small_graph, device="cpu", size=256, batches=(2,))


def test_real_files_through_a_real_engine(one, pictures, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    files = Pictures(paths=(broken, *sorted(pictures.rglob("*.png"))[:3]), what="three of four")
    effort = Effort(seconds=0.01, rounds=2)
    figures = measure_files([one], {"fp32": 4}, files, effort, threads=1)["fp32"]
    assert figures.failure is None
    assert len(figures.fps) == len(figures.engine_fps) == len(figures.decoding_fps) == 2
    assert min(figures.fps + figures.engine_fps + figures.decoding_fps) > 0
    assert figures.skipped == figures.pictures / 4
    assert figures.peak_memory_mib > 0


def test_files_that_are_all_bad_are_a_reason(one, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    files = Pictures(paths=(broken,), what="none")
    found = measure_files([one], {"fp32": 2}, files, Effort(seconds=0.01, rounds=2), threads=1)
    assert "none of the files could be judged" in found["fp32"].failure
    assert found["fp32"].fps == []
