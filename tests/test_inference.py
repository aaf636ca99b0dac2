import numpy as np
import pytest
import torch

from export.inference import InferenceForm
from lfm_deploy.artifacts import InputForm, Precision
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.network.model import normalise
from lfm_deploy.pictures.photographs import sample_tiles


@pytest.fixture
def model(small_checkpoint):
    return read_checkpoint(small_checkpoint).build_model()


@pytest.fixture
def tiles():
    return torch.from_numpy(sample_tiles(64, 96, 6))


def run(form, image):
    with torch.inference_mode():
        return form.eval()(image)


def test_raw_pixels_give_the_published_logit(model, tiles):
    form = InferenceForm(model, InputForm.UINT8, Precision.FP32, evidence=False)
    # Folds are exact up to one float32 rounding of each weight; logits here are about 1.
    torch.testing.assert_close(run(form, tiles), model(normalise(tiles)), rtol=0, atol=1e-4)


def test_normalised_pixels_give_the_published_logit(model, tiles):
    form = InferenceForm(model, InputForm.FLOAT, Precision.FP32, evidence=False)
    torch.testing.assert_close(run(form, normalise(tiles)), model(normalise(tiles)), rtol=0, atol=1e-4)


def test_the_mean_cancels_only_because_npr_is_a_difference(model, tiles):
    """A constant added to every pixel changes nothing; this is why no float pre-processing is left."""
    form = InferenceForm(model, InputForm.UINT8, Precision.FP32, evidence=False)
    dark = (tiles // 2).to(torch.uint8)
    assert torch.equal(run(form, dark), run(form, dark + 100))


def test_fp16_is_half_precision_up_to_pooling_and_float32_after(model, tiles):
    form = InferenceForm(model, InputForm.UINT8, Precision.FP16, evidence=False)
    types = {name.split(".")[0]: parameter.dtype for name, parameter in form.named_parameters()}
    assert types == {"backbone": torch.float16, "projection": torch.float16, "head": torch.float32}
    # Ten bits of significand through four layers; logits here are about 1.
    torch.testing.assert_close(run(form, tiles), model(normalise(tiles)), rtol=0, atol=0.05)


def test_npr_of_raw_pixels_is_exact_in_float16():
    from lfm_deploy.network.residuals import neighbouring_pixel_relationships

    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64))).float()
    exact = neighbouring_pixel_relationships(pixels)
    assert torch.equal(neighbouring_pixel_relationships(pixels.half()).float(), exact)


def test_evidence_has_its_documented_types_and_the_same_logit(model, tiles):
    plain = run(InferenceForm(model, InputForm.UINT8, Precision.FP32, evidence=False), tiles)
    logit, values, positions = run(InferenceForm(model, InputForm.UINT8, Precision.FP32, evidence=True), tiles)
    assert torch.equal(logit, plain)
    shape = (6, model.config.projection, model.config.k)
    assert (values.shape, values.dtype) == (shape, torch.float32)
    assert (positions.shape, positions.dtype) == (shape, torch.int32)
