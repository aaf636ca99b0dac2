import csv
from pathlib import Path

import pytest

import engines.cards
from engines.cards import cards_of, read_cards
from engines.gpus import parse_gpus
from lfm_deploy.kernels import Kernel

MOVING = Kernel(name="a", kind="maxpool", picture_bytes=768_000_000, run_bytes=0, arithmetic=None, multiply_adds=0)


def test_every_card_is_one_that_gpu_takes_by_name_and_of_its_capability():
    for card in read_cards():
        assert parse_gpus(card.name) == [card.gpu]


def test_every_line_has_its_source_and_sound_figures():
    with Path(engines.cards.__file__).with_name("cards.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert all(row["source"].startswith("NVIDIA") for row in rows)
    for card in read_cards():
        rates = card.operations_per_second
        # Tensor cores of all these generations do INT8 at twice the rate of float16; sources round.
        assert rates["int8"] / rates["fp16"] == pytest.approx(2, rel=0.02)
        assert rates["fp32"] < rates["fp16"]
        assert 1e11 < card.bytes_per_second < 1e13


def test_a_kernel_takes_as_long_as_its_memory_or_its_products():
    (card,) = [card for card in read_cards() if card.name == "RTX A6000"]
    assert card.best_seconds(MOVING, 256) == pytest.approx(1e-3)
    weights = Kernel(name="b", kind="kgen", picture_bytes=0, run_bytes=768_000_000, arithmetic=None, multiply_adds=0)
    assert card.best_seconds(weights, 1) == pytest.approx(1e-3)
    assert card.best_seconds(weights, 100) == pytest.approx(1e-5)
    products = Kernel(
        name="c", kind="correlation", picture_bytes=1, run_bytes=1, arithmetic="int8", multiply_adds=309_700_000_000
    )
    assert card.best_seconds(products, 256) == pytest.approx(2e-3)
    assert card.best_fps([MOVING, weights, products], 100) == pytest.approx(1 / 3.01e-3)


def test_an_unknown_capability_has_no_cards():
    assert cards_of("sm90") == ()
    assert cards_of("sm86")[0].name == "RTX A6000"
