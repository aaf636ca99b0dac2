from dataclasses import replace

import pytest

from lfm_deploy.artifacts import Precision
from lfm_deploy.deployment.kernel_table import advise_cards, describe_kernels, show_arithmetic, show_name
from lfm_deploy.engine_info import read_engine_info


@pytest.fixture
def info(deployment):
    return read_engine_info(deployment.engine(Precision.FP16, "sm86"))


def test_times_add_up_to_the_bound_of_the_first_card(info):
    table = describe_kernels(info)
    assert table["cards"][0]["card"] == "RTX A6000"
    # Each is rounded to a thousandth of a microsecond, the sum to a picture.
    assert 1e6 / sum(row["microseconds"] for row in table["kernels"]) == pytest.approx(
        table["cards"][0]["fps"], rel=1e-3
    )
    assert table["picture_bytes"] == sum(row["kernel"]["picture_bytes"] for row in table["kernels"])
    assert (table["batch"], table["form"]) == (info.batch[2], info.form)


def test_without_a_list_or_a_card_nothing_is_claimed(info):
    assert describe_kernels(replace(info, kernels=None)) is None
    table = describe_kernels(replace(info, gpu="sm121"))
    assert table["cards"] == []
    assert {row["microseconds"] for row in table["kernels"]} == {None}


def test_each_card_gets_the_faster_precision(info):
    table = describe_kernels(info)

    def with_fps(*fps):
        cards = [card | {"fps": value} for card, value in zip(table["cards"], fps, strict=False)]
        return table | {"cards": cards}

    (line,) = advise_cards([("fp16", with_fps(100, 200)), ("int8", with_fps(150, 100))])
    assert line == (
        "tensorrt-rtx on sm86, by its kernels at best, not measured: ship INT8 to RTX A6000 (1.50 x FP16); "
        "ship FP16 to A10 (2.00 x INT8)"
    )
    assert advise_cards([("fp16", table)]) == []


def test_names_fit_a_table(info):
    kernel = info.kernels[0].as_dict()
    assert show_name(kernel | {"name": "__myl_CastMul_myl0_3"}) == "CastMul"
    assert show_name(kernel | {"name": "__myl_" + "Slic" * 20 + "_myl0_3"}) == "Slic" * 7 + "Sli…"
    assert show_arithmetic(kernel | {"arithmetic": "cores"}) == "fp32 cores"
    assert show_arithmetic(kernel | {"arithmetic": None}) == "-"
