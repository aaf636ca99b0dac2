import re

import pytest

from lfm_deploy.errors import ConfigError
from lfm_deploy.verification.verify_options import VerifyOptions


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"device": "gpu"}, "device is 'gpu', expected cpu, cuda or cuda:N"),
        ({"device": "cuda:0,gpu"}, "device is 'gpu', expected cpu, cuda or cuda:N"),
        ({"device": "cuda:0,cuda:0"}, "device is 'cuda:0,cuda:0', expected each device once"),
        ({"batch": 0}, "batch is 0, expected 1 picture or more at a time"),
        ({"speed_seconds": -1.0}, "speed_seconds is -1.0, expected 0 to measure no speed, or more"),
        ({"speed_seconds": float("nan")}, "speed_seconds is nan, expected 0"),
        (
            {"envelope_engine": "onnxruntime fp32"},
            "envelope_engine is 'onnxruntime fp32', which has no effect without envelope=True or aligned=True",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(values, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        VerifyOptions(**values)


def test_several_gpus_and_no_speed_make_sense():
    options = VerifyOptions(device="cuda:0,cuda:1", speed_seconds=0, envelope=True, envelope_engine="onnxruntime fp32")
    assert options.use_cache


def test_the_engine_of_the_envelope_may_be_that_of_aligned_fakes():
    assert VerifyOptions(aligned=True, envelope_engine="onnxruntime fp32").envelope is False
