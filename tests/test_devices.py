import pytest

from engines.devices import parse_device, parse_gpu, split_devices
from lfm_deploy.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "device"), [("cpu", ("cpu", 0)), ("cuda", ("cuda", 0)), ("cuda:0", ("cuda", 0)), ("cuda:13", ("cuda", 13))]
)
def test_parse_device(text, device):
    assert parse_device(text) == device


@pytest.mark.parametrize("text", ["", "tpu", "3", "cuda:", "cuda:x", "cuda:-1", "cuda:1:2", "cpu:0", "cuda:²"])
def test_parse_device_refuses_the_rest(text):
    with pytest.raises(ConfigError, match="expected cpu, cuda or cuda:N"):
        parse_device(text)


@pytest.mark.parametrize(("text", "index"), [("cuda", 0), ("cuda:3", 3)])
def test_parse_gpu(text, index):
    assert parse_gpu(text) == index


@pytest.mark.parametrize("text", ["cpu", "cuda:x", "3"])
def test_parse_gpu_refuses_the_rest(text):
    with pytest.raises(ConfigError, match="cuda or cuda:N"):
        parse_gpu(text)


def test_split_devices():
    assert split_devices("cuda:0, cuda:1") == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize("text", ["cuda:0,cuda:0", "cuda:0,", ",", "cpu,cpu"])
def test_split_devices_refuses_the_rest(text):
    with pytest.raises(ConfigError, match="each device once"):
        split_devices(text)
