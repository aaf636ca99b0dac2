import onnx
import pytest

from calib.pictures import PictureStore
from calib.scoring import score_graph
from engines.loading import load_engine
from lfm_deploy.pictures.photographs import sample_tiles


@pytest.fixture(scope="module")
def store():
    with PictureStore() as pictures:
        for tile in sample_tiles(256, 256, 6):
            pictures.add(tile)
        yield pictures


def test_logits_are_the_engines_in_the_order_asked_for(store, small_graph):
    found = score_graph(onnx.load(small_graph), store, [5, 0, 3])
    expected = load_engine(small_graph).logits(sample_tiles(256, 256, 6)[[5, 0, 3]])
    # float32 in other batches: seen 1e-6.
    assert found == pytest.approx(expected, abs=1e-4)
