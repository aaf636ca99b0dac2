from dataclasses import replace
from pathlib import Path

import pytest

from engines.device_plan import MemoryPlan, check_memory, evidence_bytes, image_shape, plan_memory
from engines.gpus import Gpu
from lfm_deploy.artifacts import InputForm, Precision
from lfm_deploy.contract import Contract
from lfm_deploy.engine_info import read_engine_info
from lfm_deploy.errors import UnavailableError

A6000 = Gpu(index=0, name="NVIDIA RTX A6000", sm="sm86")
MIB = 1 << 20


@pytest.fixture
def info(deployment):
    return read_engine_info(deployment.engine(Precision.FP16, "sm86"))


def test_the_plan_counts_weights_activations_and_three_slots_of_which_one_holds_the_largest_batch(info):
    info = replace(info, batch=(1, 32, 256), weights_bytes=3 * MIB, activation_bytes=5000 * MIB)
    plan = plan_memory(info)
    # 256 pictures of 256x256 pixels are 48 MiB in uint8, a part of 128 is half of them; 256 logits are 1 KiB.
    buffers = (48 + 24 + 24) * MIB + 3 * 1024
    assert plan == MemoryPlan(weights=3 * MIB, activations=5000 * MIB, buffers=buffers)
    assert plan.total == 5099 * MIB + 3072


def test_float_pictures_and_native_sizes_take_more(info):
    info = replace(info, batch=(1, 1, 2))
    assert plan_memory(replace(info, input=InputForm.FLOAT)).buffers == 3 * (2 * 256 * 256 * 3 * 4 + 8)
    native = replace(info, sides=(48, 256, 1024), contract=Contract(size="native"))
    assert plan_memory(native).buffers == 3 * (2 * 1024 * 1024 * 3 + 8)
    # Of 16 such pictures, 8 have as many pixels as a part may have; of an engine for 16 or more, 16 run at once.
    large = replace(native, batch=(1, 1, 16))
    assert plan_memory(large).buffers == (16 + 8 + 8) * 1024 * 1024 * 3 + 3 * 64
    assert plan_memory(replace(large, batch=(16, 16, 16))).buffers == 3 * (16 * 1024 * 1024 * 3 + 64)
    assert image_shape(native, 5) == (5, 1024, 1024, 3)
    assert image_shape(replace(native, input=InputForm.FLOAT), 5) == (5, 3, 1024, 1024)


def test_evidence_outputs_have_a_place(info):
    with_evidence = replace(info, evidence=True)
    # 8 pictures, 4 channels, 4 values of 4 bytes.
    assert evidence_bytes(with_evidence) == {"evidence_values": 512, "evidence_positions": 512}
    assert plan_memory(with_evidence).buffers - plan_memory(info).buffers == 1024
    assert evidence_bytes(info) == {}


def test_what_the_loaded_engine_says_comes_before_the_build_log(info):
    assert plan_memory(info).activations == info.activation_bytes
    assert plan_memory(info).weights == info.weights_bytes
    loaded = plan_memory(info, activations=7, weights=0)
    assert (loaded.activations, loaded.weights) == (7, 0)


def test_without_a_figure_in_the_log_the_plan_still_holds_the_weights(info):
    plan = plan_memory(replace(info, weights_bytes=None, activation_bytes=None))
    assert (plan.weights, plan.activations) == (info.plan_bytes, 0)


def test_an_engine_that_fits_to_the_byte_is_taken_and_one_byte_less_is_refused(info):
    info = replace(info, batch=(1, 32, 256), weights_bytes=3 * MIB, activation_bytes=5000 * MIB)
    plan = plan_memory(info)
    check_memory(Path("lfm.engine"), info, plan, A6000, plan.total, 49140 * MIB)
    with pytest.raises(UnavailableError) as caught:
        check_memory(Path("lfm.engine"), info, plan, A6000, plan.total - 1, 49140 * MIB)
    assert caught.value.exit_code == 3
    assert str(caught.value) == (
        "lfm.engine: not run: batches up to 256 need 5099.0 MiB of GPU memory (weights 3.0, activations 5000.0, "
        "buffers 96.0), and NVIDIA RTX A6000 has 5099.0 of 49140.0 MiB free; build it for smaller batches "
        "(--batch 1,32,128), choose another GPU (--device cuda:N), or end what else runs there"
    )


@pytest.mark.parametrize(("batch", "offered"), [((1, 32, 32), "1,16,16"), ((4, 8, 16), "4,8,8"), ((1, 1, 1), "1,1,1")])
def test_the_offered_batch_is_a_possible_profile(info, batch, offered):
    info = replace(info, batch=batch)
    with pytest.raises(UnavailableError, match=rf"--batch {offered}\)"):
        check_memory(Path("x"), info, plan_memory(info), A6000, 0, 0)
