import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from engines.cpu_settings import default_settings
from lfm_deploy.detectors.foreign import open_detectors
from lfm_deploy.detectors.foreign_scores import detector_reading, make_detector_scorer
from lfm_deploy.pictures.fingerprints import fingerprint_files
from lfm_deploy.scoring.score_cache import ScoreCache
from lfm_deploy.scoring.scorers import Task, plan_tasks, run_tasks

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


def score(detector, paths, cache, *, prints=None, batch=32, on_progress=lambda *_: None):
    """Answers to paths, and how many logits came from the cache."""
    prints = fingerprint_files(paths) if prints is None else prints
    task = Task(what="mean", paths=paths, prints=prints, reading=detector_reading(detector, batch))
    scorer = make_detector_scorer(detector)
    plan_tasks([task], [scorer], cache)
    run_tasks([task], [scorer], cache, on_progress)
    return task.found["mean"], scorer.cached


EXPECTED = [-0.5, 0.5, 1.5, "cannot be read: not a picture of a known format", 3.5, 4.5]


@pytest.fixture
def cache(tmp_path):
    with ScoreCache(tmp_path / "scores.sqlite", pytest.fail) as opened:
        yield opened


def test_a_second_run_reads_no_picture(folder, tmp_path, cache):
    paths = sorted(folder.glob("*.png"))
    prints = fingerprint_files(paths)
    assert score(opened(folder), paths, cache) == (EXPECTED, 0)
    elsewhere = [tmp_path / path.name for path in paths]  # where nothing is
    assert score(opened(folder), elsewhere, cache, prints=prints) == (EXPECTED, 5)
    moved = [value if isinstance(value, str) else value - 1 for value in EXPECTED]
    assert score(opened(folder, 1.5), paths, cache) == (moved, 0)  # another contract


def test_a_killed_run_has_kept_its_batches(folder, tmp_path, cache):
    paths = sorted(folder.glob("*.png"))
    prints = fingerprint_files(paths)

    def stop(_, done, __):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(opened(folder), paths, cache, batch=2, on_progress=stop)
    done = []
    missing = [tmp_path / path.name for path in paths[:4]] + paths[4:]
    found = score(opened(folder), missing, cache, prints=prints, on_progress=lambda *step: done.append(step))
    assert found == (EXPECTED, 3)
    assert done == [("mean", 4, 6), ("mean", 6, 6)]


@pytest.mark.parametrize("known", [True, False])
def test_without_a_cache_or_a_hash_nothing_is_kept(folder, cache, known):
    paths = sorted(folder.glob("*.png"))
    for _ in range(2):
        prints = None if known else [None] * 6
        assert score(opened(folder), paths, None if known else cache, prints=prints) == (EXPECTED, 0)


def test_logits_are_kept_to_the_last_bit(folder, tmp_path, cache):
    rng = np.random.default_rng(0)
    path = tmp_path / "x.png"
    Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)).save(path)
    detector, prints = opened(folder, 0.1), fingerprint_files([path])
    computed, _ = score(detector, [path], cache)
    assert score(detector, [tmp_path], cache, prints=prints) == (computed, 1)


def test_a_file_written_while_it_is_judged_is_not_kept(folder, tmp_path, cache):
    path = tmp_path / "grey.png"
    Image.new("RGB", (8, 4), (7, 7, 7)).save(path)
    content, prints = path.read_bytes(), fingerprint_files([path])
    Image.new("RGB", (8, 4), (9, 9, 9)).save(path)  # after it was hashed, and before it is read
    assert score(opened(folder), [path], cache, prints=prints) == ([8.5], 0)
    path.write_bytes(content)
    assert score(opened(folder), [path], cache) == ([6.5], 0)
    assert score(opened(folder), [path], cache) == ([6.5], 1)
