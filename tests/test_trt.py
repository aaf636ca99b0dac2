import json
import shutil

import numpy as np
import pytest

from engines.gpus import Gpu
from engines.library import load_library
from engines.loading import load_engine
from engines.trt import check_gpu, check_version, parse_device
from lfm_deploy.artifacts import Precision, read_engine_info, sidecar_path
from lfm_deploy.errors import ArtifactError, ConfigError, InputError, OtherGpuError, UnavailableError
from lfm_deploy.photographs import sample_tiles

A6000 = Gpu(index=0, name="NVIDIA RTX A6000", sm="sm86")


@pytest.fixture
def engine_file(own_deployment):
    return own_deployment.engine(Precision.FP16, "sm86")


def test_without_a_driver_loading_is_exit_3_and_one_sentence(engine_file, no_gpu):
    with pytest.raises(UnavailableError, match="no CUDA device") as caught:
        load_engine(engine_file)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_a_plan_for_this_gpu_and_library_is_runnable(engine_file):
    info = read_engine_info(engine_file)
    check_version(engine_file, info, load_library("tensorrt-rtx"))
    check_gpu(engine_file, info, A6000)


def test_a_plan_of_another_library_version_is_stale_with_or_without_a_gpu(engine_file):
    sidecar = sidecar_path(engine_file)
    values = json.loads(sidecar.read_text()) | {"library_version": "1.6.0"}
    sidecar.write_text(json.dumps(values))
    with pytest.raises(ArtifactError, match=r"stale.*1\.6\.0.*lfm-deploy build --fp16 --gpu sm86"):
        load_engine(engine_file)


def test_a_plan_for_another_gpu_names_the_command(engine_file):
    other = Gpu(index=0, name="NVIDIA L4", sm="sm89")
    with pytest.raises(
        OtherGpuError, match="built for sm86, but NVIDIA L4 is sm89; run 'lfm-deploy build --fp16 --gpu sm89'"
    ):
        check_gpu(engine_file, read_engine_info(engine_file), other)


def test_a_damaged_plan_is_refused_before_any_gpu_is_asked(engine_file):
    content = bytearray(engine_file.read_bytes())
    content[len(content) // 2] ^= 1
    engine_file.write_bytes(content)
    with pytest.raises(ArtifactError, match="damaged"):
        load_engine(engine_file)


def test_a_missing_sidecar_is_refused(engine_file):
    sidecar_path(engine_file).unlink()
    with pytest.raises(ArtifactError, match=r"sidecar .* is missing"):
        load_engine(engine_file)


def test_the_sidecar_of_another_plan_is_refused(own_deployment, engine_file):
    shutil.copy(sidecar_path(own_deployment.engine(Precision.FP32, "sm86")), sidecar_path(engine_file))
    with pytest.raises(ArtifactError, match="another plan"):
        load_engine(engine_file)


@pytest.mark.parametrize(("text", "index"), [("cuda", 0), ("cuda:3", 3)])
def test_parse_device(text, index):
    assert parse_device(text) == index


@pytest.mark.parametrize("text", ["cpu", "cuda:x", "3"])
def test_parse_device_refuses_the_rest(text):
    with pytest.raises(ConfigError, match="cuda or cuda:N"):
        parse_device(text)


def test_load_engine_refuses_unknown_kinds(tmp_path):
    with pytest.raises(InputError, match=r"expected a \.pth, \.onnx or \.engine"):
        load_engine(tmp_path / "model.bin")


def test_a_real_gpu_makes_the_same_decisions(gpu, own_deployment, tmp_path):
    """Build for the GPU in this machine, with whatever library fits it, and compare with PyTorch."""
    from engines.builder import BuildConfig
    from lfm_deploy.deployment import build_into, choose_target

    config = BuildConfig(batch=(1, 4, 8))
    images = sample_tiles(256, 256, 11)
    expected = load_engine(own_deployment.checkpoint).logits(images)
    for precision in (Precision.FP32, Precision.FP16):
        (built,) = build_into(own_deployment, precision, choose_target(None, None), config, on_message=print)
        engine = load_engine(built.engine)
        # As for the exports: FP16 was seen to move logits of this scale by less than 0.05.
        np.testing.assert_allclose(engine.logits(images), expected, rtol=0, atol=1e-3 if precision == "fp32" else 0.25)
        engine.close()
