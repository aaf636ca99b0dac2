import threading
from types import SimpleNamespace

import numpy as np
import pytest

from engines.cpu_settings import default_settings
from engines.loading import load_engine
from engines.ort import OrtEngine
from engines.pytorch import PyTorchEngine
from engines.several import SeveralEngines, name_devices, share_batch
from lfm_deploy.artifacts import Precision
from lfm_deploy.errors import ArtifactError, ConfigError, ShapeError, UnavailableError
from lfm_deploy.pictures.photographs import sample_tiles


@pytest.mark.parametrize("smallest", [1, 4])
@pytest.mark.parametrize("members", [1, 2, 3, 8])
@pytest.mark.parametrize("pictures", [1, 2, 3, 4, 7, 8, 9, 33])
def test_shares_cover_every_picture_once_in_order_and_are_equal(pictures, members, smallest):
    shares = share_batch(pictures, members, smallest)
    sizes = [share.stop - share.start for share in shares]
    assert [index for share in shares for index in range(share.start, share.stop)] == list(range(pictures))
    assert len(shares) <= members
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(smallest, pictures)


def test_everyone_works_where_there_is_work_for_everyone():
    assert [len(share_batch(pictures, 3, 4)) for pictures in (1, 7, 8, 11, 12, 100)] == [1, 1, 2, 2, 3, 3]


@pytest.fixture
def three(small_graph):
    engine = SeveralEngines([lambda: OrtEngine(small_graph, settings=default_settings(1))] * 3)
    yield engine
    engine.close()


def test_shared_pictures_get_the_same_logits_in_order(three, small_graph):
    alone = OrtEngine(small_graph, settings=default_settings(1))
    images = sample_tiles(256, 256, 11)
    for pictures in (11, 2, 1):
        found = three.logits(images[:pictures])
        # A share is a smaller batch, which may sum in another order.
        np.testing.assert_allclose(found, alone.logits(images[:pictures]), rtol=0, atol=1e-4)
        assert found.dtype == np.float32
    assert np.ptp(alone.logits(images)) > 0.1  # else the order would not show


def test_it_says_what_it_is(three):
    assert (three.name, three.runtime, three.precision) == ("onnxruntime fp32 x3", "onnxruntime", "fp32")
    assert three.device == "cpu,cpu,cpu"
    assert three.batch_range == (1, 3 * three.members[0].batch_range[1])
    assert three.contract == three.members[0].contract
    assert three.config == three.members[0].config


def test_each_member_lives_in_one_thread_of_its_own(small_graph):
    seen = {}

    class Watched(OrtEngine):
        def __init__(self, path):
            super().__init__(path, settings=default_settings(1))
            seen[self] = {threading.get_ident()}

        def logits(self, images):
            seen[self].add(threading.get_ident())
            return super().logits(images)

        def close(self):
            seen[self].add(threading.get_ident())
            super().close()

    engine = SeveralEngines([lambda: Watched(small_graph)] * 2)
    for _ in range(3):
        engine.logits(sample_tiles(256, 256, 4))
    engine.close()
    assert [len(threads) for threads in seen.values()] == [1, 1]
    assert len(set.union(*seen.values())) == 2
    assert threading.get_ident() not in set.union(*seen.values())


def test_the_failure_of_one_member_is_raised_and_the_others_still_work(three):
    with pytest.raises(ShapeError, match="expected 256x256"):
        three.logits(sample_tiles(128, 128, 5))
    assert three.logits(sample_tiles(256, 256, 3)).shape == (3,)


def test_if_one_cannot_be_opened_the_others_are_closed_again(small_graph, tmp_path):
    closed = []

    class Watched(OrtEngine):
        def close(self):
            closed.append(self)
            super().close()

    with pytest.raises(ArtifactError, match="no such file"):
        SeveralEngines([lambda: Watched(small_graph), lambda: OrtEngine(tmp_path / "none.onnx")])
    assert len(closed) == 1


def test_engines_that_judge_differently_are_refused(small_graph, small_checkpoint):
    with pytest.raises(ConfigError, match="judge differently"):
        SeveralEngines([lambda: OrtEngine(small_graph), lambda: PyTorchEngine.from_file(small_checkpoint)])
    with pytest.raises(ConfigError, match="at least one"):
        SeveralEngines([])


def test_pictures_on_one_gpu_are_not_shared_out(three):
    with pytest.raises(ShapeError, match="lie on one GPU"):
        three.logits(SimpleNamespace(__cuda_array_interface__={}))


def test_name_devices():
    assert name_devices("0") == "cuda:0"
    assert name_devices("0, 2") == "cuda:0,cuda:2"


@pytest.mark.parametrize("text", ["", "0,", "a", "-1", "cuda:0", "0,0"])
def test_name_devices_refuses_the_rest(text):
    with pytest.raises(ConfigError):
        name_devices(text)


def test_all_gpus_of_a_machine_without_one(no_gpu):
    with pytest.raises(UnavailableError, match="no CUDA device"):
        name_devices("all")


def test_load_engine_takes_several_devices_and_falls_back_to_none(deployment, no_gpu):
    # On a machine without a GPU each of them fails, and not one falls back.
    for path in (deployment.graph(Precision.FP32), deployment.engine(Precision.FP16, "sm86"), deployment.checkpoint):
        with pytest.raises(UnavailableError):
            load_engine(path, device="cuda:0,cuda:1")


def test_load_engine_refuses_options_of_another_kind_of_file(deployment):
    with pytest.raises(ConfigError, match="each device once"):
        load_engine(deployment.graph(Precision.FP32), device="cuda:0,cuda:0")
    with pytest.raises(ConfigError, match="for a checkpoint in PyTorch"):
        load_engine(deployment.graph(Precision.FP32), precision="fp16")


def test_every_real_gpu_gives_the_same_logits(gpu, own_deployment):
    from engines.builder import BuildConfig
    from lfm_deploy.deployment.deployment import build_into, choose_target

    built = build_into(
        own_deployment, Precision.FP32, choose_target(None, None), BuildConfig(batch=(1, 4, 8)), on_message=print
    )
    images = sample_tiles(256, 256, 23)
    engine = load_engine(built[0].engine, device=name_devices("all"))
    # The export's own tolerance for float32.
    expected = load_engine(own_deployment.checkpoint).logits(images)
    np.testing.assert_allclose(engine.logits(images), expected, rtol=0, atol=1e-3)
    engine.close()
