import shutil

import numpy as np
import pytest
import torch
from conftest import write_random_checkpoint

from engines.loading import load_engine
from engines.pytorch import PyTorchEngine
from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import Contract
from lfm_deploy.errors import ConfigError, ShapeError, UnavailableError
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.pictures.photographs import sample_tiles


def test_logits_equal_the_authors_on_every_golden_picture(official_checkpoint, golden):
    engine = PyTorchEngine.from_file(official_checkpoint)
    # Logits reach 46; the acceptance is 1e-3, summation order moves them by about 2e-5.
    np.testing.assert_allclose(engine.logits(golden["images"]), golden["logits"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(engine.logits(golden["native_images"]), golden["native_logits"], rtol=0, atol=1e-3)


def test_more_pictures_than_run_at_a_time_keep_their_order(small_checkpoint):
    engine = PyTorchEngine.from_file(small_checkpoint)
    images = np.random.default_rng(0).integers(0, 256, (70, 48, 48, 3), dtype=np.uint8)
    whole = engine.logits(images)
    # One float32 rounding of sums in another order.
    np.testing.assert_allclose(whole[65:], engine.logits(images[65:]), rtol=0, atol=1e-4)


def test_odd_pictures_are_refused(small_checkpoint):
    with pytest.raises(ShapeError, match="even sides"):
        PyTorchEngine.from_file(small_checkpoint).logits(np.zeros((1, 49, 48, 3), np.uint8))


def test_without_a_gpu_it_does_not_fall_back(small_checkpoint):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UnavailableError, match="no CUDA device"):
        PyTorchEngine.from_file(small_checkpoint, device="cuda")


def test_the_reference_is_float32_as_published(small_checkpoint):
    engine = load_engine(small_checkpoint)
    assert (engine.name, engine.precision) == ("pytorch fp32", "fp32")
    assert engine._layout is None
    images = sample_tiles(256, 256, 5)
    model = read_checkpoint(small_checkpoint).build_model()
    with torch.inference_mode():
        from lfm_deploy.network.model import normalise

        expected = model(normalise(torch.from_numpy(images))).numpy()
    np.testing.assert_array_equal(engine.logits(images), expected)


def test_channels_last_keeps_float32_logits(official_checkpoint, golden):
    engine = PyTorchEngine(read_checkpoint(official_checkpoint), channels_last=True)
    images = golden["images"][:8]
    assert engine._layout is torch.channels_last
    # The acceptance of the reference itself: another layout sums in another order.
    np.testing.assert_allclose(engine.logits(images), golden["logits"][:8], rtol=0, atol=1e-3)


def test_fp16_is_an_engine_of_its_own_that_judges_alike(small_checkpoint):
    images = sample_tiles(256, 256, 10)
    expected = load_engine(small_checkpoint).logits(images)
    engine = load_engine(small_checkpoint, precision="fp16")
    assert (engine.name, engine.precision, engine.runtime) == ("pytorch fp16", "fp16", "pytorch")
    found = engine.logits(images)
    assert found.dtype == np.float32
    # As for the FP16 graphs of this network: seen below 0.05. It does compute otherwise, so some logit moves.
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.25)
    assert np.any(found != expected)


def test_autocast_is_to_float16_on_the_cpu_too_and_the_logit_stays_float32(small_checkpoint):
    engine = PyTorchEngine.from_file(small_checkpoint, precision="fp16")
    seen = {}
    for name, module in engine._model.named_modules():
        module.register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: output.dtype}))
    engine.logits(sample_tiles(256, 256, 1))
    assert {seen[name] for name in ("snet.layer1.0", "snet.layer3.0", "projection", "pool")} == {torch.float16}
    assert seen["fc"] == torch.float32


def test_other_precisions_are_refused(small_checkpoint):
    with pytest.raises(ConfigError, match="fp32 or fp16"):
        load_engine(small_checkpoint, precision="int8")


def test_what_cannot_be_compiled_is_said_in_one_sentence(small_checkpoint):
    from torch._dynamo.exc import TorchDynamoException

    engine = PyTorchEngine.from_file(small_checkpoint)

    def fail(pixels):
        raise TorchDynamoException("no compiler\nand much more")

    engine._compiled, engine._forward = True, fail
    with pytest.raises(UnavailableError, match=r"compiled: not run: torch.compile failed \(no compiler\); run it unc"):
        engine.logits(sample_tiles(256, 256, 1))


@pytest.fixture(scope="module")
def one_stage_checkpoint(tmp_path_factory):
    """A network with each kind of kernel: the compiler takes seconds for each."""
    path = tmp_path_factory.mktemp("stage") / "stage.pth"
    write_random_checkpoint(ModelConfig(widths=(4,), projection=2, k=2), path)
    return path


@pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch compiles for a CPU with a C++ compiler")
def test_compiled_it_gives_the_same_logits_without_a_word(one_stage_checkpoint, recwarn):
    images = sample_tiles(256, 256, 5)
    engine = load_engine(one_stage_checkpoint, compiled=True)
    assert engine.name == "pytorch fp32 compiled"
    # The same float32 sums in another order; logits of some units.
    np.testing.assert_allclose(engine.logits(images), load_engine(one_stage_checkpoint).logits(images), atol=1e-4)
    assert not recwarn.list


def test_a_missing_compiler_is_named_when_it_is_opened(one_stage_checkpoint, monkeypatch):
    import torch._inductor.cpp_builder as builder
    from torch._inductor.exc import InvalidCxxCompiler

    def missing(*_):
        raise InvalidCxxCompiler

    torch._dynamo.reset()
    monkeypatch.setattr(builder, "get_cpp_compiler", missing)
    monkeypatch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    with pytest.raises(UnavailableError, match=r"install a C\+\+ compiler, or run it uncompiled"):
        load_engine(one_stage_checkpoint, compiled=True)


def test_a_real_gpu_runs_every_form(gpu, small_checkpoint):
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch is for the CPU alone")
    images = sample_tiles(256, 256, 10)
    expected = load_engine(small_checkpoint).logits(images)
    for precision, tolerance in (("fp32", 1e-3), ("fp16", 0.25)):  # as above
        for compiled in (False, True):
            engine = load_engine(small_checkpoint, device="cuda", precision=precision, compiled=compiled)
            np.testing.assert_allclose(engine.logits(images), expected, rtol=0, atol=tolerance)
            engine.close()


def test_it_judges_by_the_contract_of_a_graph_that_it_stands_for(small_checkpoint):
    contract = Contract(size=64, threshold=1.5)
    engine = PyTorchEngine.from_file(small_checkpoint, contract=contract)
    assert engine.contract == contract
    images = sample_tiles(64, 64, 2)
    np.testing.assert_array_equal(engine.logits(images), PyTorchEngine.from_file(small_checkpoint).logits(images))
    with pytest.raises(ShapeError, match="expected 64x64"):
        engine.logits(sample_tiles(128, 128, 1))


def test_cudnn_stays_on_while_it_runs(small_checkpoint):
    engine = PyTorchEngine.from_file(small_checkpoint)
    seen = []

    def look(pixels):
        seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))
        return torch.zeros(len(pixels))

    engine._forward = look
    engine.logits(sample_tiles(256, 256, 1))
    assert seen == [(True, False)]
