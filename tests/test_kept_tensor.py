import resource

import numpy as np
import onnx
import pytest

from calib.activations import ActivationReader
from calib.kept_tensor import KeptTensor
from calib.pictures import PictureStore

FIRST, SECOND = "conv2.input", "conv3.input"


class CountingStore(PictureStore):
    def __init__(self):
        super().__init__()
        self.asked = []

    def batches(self, indices, size=4):
        self.asked += indices
        return super().batches(indices, size)


@pytest.fixture
def store():
    with CountingStore() as pictures:
        for seed in range(3):
            pictures.add(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8))
        yield pictures


@pytest.fixture
def base(tile_workdir):
    from lfm_deploy.artifacts import Precision

    return onnx.shape_inference.infer_shapes(onnx.load(tile_workdir.graph(Precision.FP32)))


def expected(base, store, name, index):
    (images,) = PictureStore.batches(store, [index])
    return ActivationReader(base, [name]).read(images)[name]


def test_a_tensor_from_the_one_before_it_is_the_same_bit_for_bit_and_is_computed_once(base, store):
    with KeptTensor(base, FIRST, store) as first, KeptTensor(base, SECOND, first) as second:
        for tensor in (second, first):
            for index in (2, 0, 2, 1, 0):
                assert np.array_equal(tensor.read(index), expected(base, store, tensor.name, index))
        assert sorted(store.asked) == [0, 1, 2]


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_what_finds_no_room_on_disk_is_computed_again(base, store, kept):
    room = kept * expected(base, store, FIRST, 0).nbytes
    with KeptTensor(base, FIRST, store, most_bytes=room) as tensor:
        for _ in range(2):
            for index in range(3):
                assert np.array_equal(tensor.read(index), expected(base, store, FIRST, index))
    assert len(store.asked) == 2 * 3 - kept


def test_a_full_disk_costs_time_and_nothing_else(base, store):
    wanted = [expected(base, store, FIRST, index) for index in range(3)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (wanted[0].nbytes * 3 // 2, limits[1]))
    try:
        with KeptTensor(base, FIRST, store) as tensor:
            for index in (0, 1, 2, 0, 1, 2):
                assert np.array_equal(tensor.read(index), wanted[index])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(store.asked) == [0, 1, 1, 2, 2]


def test_what_was_closed_is_computed_again_also_for_what_comes_after_it(base, store):
    first = KeptTensor(base, FIRST, store)
    first.read(1)
    first.close()
    with KeptTensor(base, SECOND, first) as second:
        assert np.array_equal(second.read(1), expected(base, store, SECOND, 1))
    assert store.asked == [1, 1]
