import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from engines.cpu_settings import default_settings
from lfm_deploy.atomic import sha256_of_file
from lfm_deploy.detectors.foreign import open_detectors
from lfm_deploy.detectors.foreign_scores import score_cached
from lfm_deploy.scoring.score_cache import ScoreCache

CONTRACT = """
name = "mean"
onnx = "mean.onnx"
[input]
layout = "NHWC"
dtype = "uint8"
colour = "RGB"
fit = "none"
[output]
meaning = "logit"
threshold = THRESHOLD
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A detector whose logit is the mean of all pixels, and six pictures whose mean is their number; one is broken."""
    folder = tmp_path_factory.mktemp("detector")
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real"], ["logit"], axes=[1, 2, 3], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["n"])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "mean.onnx")
    for index in range(6):
        Image.new("RGB", (8, 4), (index, index, index)).save(folder / f"{index}.png")
    (folder / "3.png").write_text("broken")
    return folder


def opened(folder, threshold=0.5):
    (folder / "mean.toml").write_text(CONTRACT.replace("THRESHOLD", str(threshold)))
    return open_detectors([folder / "mean.toml"], settings=default_settings(threads=1), spin=False)[0]


def hashed(folder):
    paths = sorted(folder.glob("*.png"))
    return paths, [sha256_of_file(path) for path in paths]


EXPECTED = [-0.5, 0.5, 1.5, "cannot be read: not a picture of a known format", 3.5, 4.5]


def test_a_second_run_reads_no_picture(folder, tmp_path):
    paths, sha256s = hashed(folder)
    with ScoreCache(tmp_path / "scores.sqlite", pytest.fail) as cache:
        assert score_cached(opened(folder), paths, sha256s, cache) == (EXPECTED, 0)
        elsewhere = [tmp_path / path.name for path in paths]  # where nothing is
        assert score_cached(opened(folder), elsewhere, sha256s, cache) == (EXPECTED, 5)
        moved = [value if isinstance(value, str) else value - 1 for value in EXPECTED]
        assert score_cached(opened(folder, 1.5), paths, sha256s, cache) == (moved, 0)  # another contract


def test_a_killed_run_has_kept_its_batches(folder, tmp_path):
    paths, sha256s = hashed(folder)

    def stop(done):
        if done == 4:
            raise KeyboardInterrupt

    with ScoreCache(tmp_path / "scores.sqlite", pytest.fail) as cache:
        with pytest.raises(KeyboardInterrupt):
            score_cached(opened(folder), paths, sha256s, cache, batch=2, on_progress=stop)
        done = []
        missing = [tmp_path / path.name for path in paths[:4]] + paths[4:]
        assert score_cached(opened(folder), missing, sha256s, cache, on_progress=done.append) == (EXPECTED, 3)
        assert done == [4, 6]


@pytest.mark.parametrize("known", [True, False])
def test_without_a_cache_or_a_hash_nothing_is_kept(folder, tmp_path, known):
    paths, sha256s = hashed(folder)
    with ScoreCache(tmp_path / "scores.sqlite", pytest.fail) as cache:
        for _ in range(2):
            found = score_cached(opened(folder), paths, sha256s if known else [None] * 6, None if known else cache)
            assert found == (EXPECTED, 0)


def test_logits_are_kept_to_the_last_bit(folder, tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    sha256s = [sha256_of_file(tmp_path / "x.png")]
    with ScoreCache(tmp_path / "scores.sqlite", pytest.fail) as cache:
        detector = opened(folder, 0.1)
        computed, _ = score_cached(detector, [tmp_path / "x.png"], sha256s, cache)
        assert score_cached(detector, [tmp_path], sha256s, cache) == (computed, 1)
