import numpy as np
import pytest
import torch

from engines.pytorch import PyTorchEngine
from lfm_deploy.errors import ShapeError, UnavailableError


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
