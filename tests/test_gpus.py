import pytest

from engines.gpus import find_gpu, parse_gpus
from lfm_deploy.errors import ConfigError, UnavailableError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sm86", ["sm86"]),
        ("86,8.9", ["sm86", "sm89"]),
        ("SM_120", ["sm120"]),
        ("RTX A6000", ["sm86"]),
        ("NVIDIA GeForce RTX 4090, L4", ["sm89"]),
        ("rtx 6000 ada generation", ["sm89"]),
        ("Quadro RTX 6000", ["sm75"]),
        ("A100,H100", ["sm80", "sm90"]),
    ],
)
def test_parse_gpus_knows_numbers_and_cards(text, expected):
    assert parse_gpus(text) == expected


def test_parse_gpus_offers_a_close_name_on_one_line():
    with pytest.raises(ConfigError, match="did you mean 'RTX A6000'") as caught:
        parse_gpus("RTX A600O")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "toaster", "sm86,,"])
def test_parse_gpus_refuses_what_it_does_not_know(text):
    with pytest.raises(ConfigError, match="compute capability"):
        parse_gpus(text)


def test_find_gpu_without_a_driver_says_so_in_one_sentence(no_gpu):
    with pytest.raises(UnavailableError, match="no CUDA device") as caught:
        find_gpu()
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_find_gpu_names_a_real_gpu(gpu):
    assert find_gpu().sm.startswith("sm")
