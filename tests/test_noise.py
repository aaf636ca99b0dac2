import numpy as np
import onnx
import pytest

from calib.activations import ActivationReader
from calib.noise import measure_snr
from calib.pictures import PictureStore
from calib.search_findings import read_findings
from export.names import LAST_OUTPUT, input_name, quantisable_tensors
from export.precision import Int8Config, prepare_int8
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.quantisation import Recipe


@pytest.fixture(scope="module")
def prepared(small_graph, small_config):
    ranges = dict.fromkeys(quantisable_tensors(small_config), (0.0, 20.0)) | {LAST_OUTPUT: (-5.0, 5.0)}
    return prepare_int8(onnx.load(small_graph), Int8Config(recipe=Recipe.CPU, ranges=ranges))


def test_the_noise_of_rounding_is_what_rounding_gives(prepared, small_graph):
    tiles = sample_tiles(256, 256, 4)
    with PictureStore() as store:
        for tile in tiles:
            store.add(tile)
        only_third = measure_snr(prepared, ["conv3"], store, range(4))
        more = measure_snr(prepared, ["conv2", "conv3"], store, range(4))
    # Whole grey levels, which no layer in front of conv1 can change, and nothing quantised in front of conv2.
    assert only_third["conv1"] == only_third["conv2"] == np.inf
    values = ActivationReader(onnx.load(small_graph), [input_name("conv3")]).read(tiles)[input_name("conv3")]
    step = np.float32(20 / 255)
    rounded = np.clip(np.round(values / step), 0, 255) * step
    expected = 10 * np.log10(np.square(values, dtype=np.float64).sum() / np.square(rounded - values, dtype=float).sum())
    # A value on the edge between two integers may fall to either side.
    assert only_third["conv3"] == pytest.approx(expected, abs=0.01)
    assert more["conv2"] < np.inf
    assert more["conv3"] < only_third["conv3"]


def test_the_signal_to_noise_ratio_is_of_what_a_layer_reads(calibrated):
    findings = read_findings(calibrated)
    cpu = findings[Recipe.CPU]["layers"]
    assert cpu["conv1"]["snr_db"] is None  # uint8 holds every residual exactly
    # Eight bits of values that are mostly far below the range: worse than the 50 dB of a full-scale sine.
    assert all(5 < cpu[name]["snr_db"] < 50 for name in ("conv2", "conv3", "projection"))
