import sys
from types import SimpleNamespace

import pytest

from engines.card_choice import check_distance, make_reader, open_card_reader, takes_device_arrays
from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import DecoderError, UnavailableError
from lfm_deploy.pictures.decoders import PILLOW


def engine(runtime, device):
    return SimpleNamespace(runtime=runtime, device=device, config=ModelConfig())


def test_engines_that_read_arrays_on_one_card():
    assert takes_device_arrays(engine("fused", "cuda:0"))
    assert takes_device_arrays(engine("tensorrt", "cuda:1"))
    for runtime, device in (("onnxruntime", "cuda:0"), ("fused", "cuda:0,cuda:1"), ("onnxruntime", "cpu")):
        assert not takes_device_arrays(engine(runtime, device))


def test_by_itself_only_a_card_that_is_equal_is_taken_and_a_named_one_may_be_a_level_off():
    said = []
    for named in (True, False):
        check_distance((0, 0.0), said.append, named=named)
    assert said == []
    with pytest.raises(DecoderError, match=r"1 level from the contract's pixels in 0\.002 % of values; take it with"):
        check_distance((1, 2e-5), said.append, named=False)
    check_distance((1, 2e-5), said.append, named=True)
    assert "verify --decoder nvimagecodec" in said[0]


@pytest.mark.parametrize("found", [(1, 0.5), (2, 1e-6), (81, 0.166), (3, 0.026)])
def test_a_card_that_shifts_pixels_or_has_another_chroma_is_refused(found):
    with pytest.raises(DecoderError, match="take --decoder pillow"):
        check_distance(found, lambda _: None, named=True)


def test_what_is_missing_is_named(monkeypatch, no_gpu):
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(UnavailableError, match=r"lfm-deploy\[kernels\]"):
        make_reader(None, PILLOW, 256, ModelConfig(), "cuda:0")
    with pytest.raises(UnavailableError, match="nvimagecodec"):
        open_card_reader(engine("fused", "cuda:0"), 256, lambda _: None, named=True)
