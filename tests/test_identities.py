import shutil
from dataclasses import replace
from importlib.metadata import version

import pytest

from engines.library import load_library
from lfm_deploy.artifacts import Precision
from lfm_deploy.deployment.lineup import find_candidates
from lfm_deploy.engine_info import read_engine_info, sidecar_path
from lfm_deploy.errors import ArtifactError, UnavailableError
from lfm_deploy.machine import count_cores
from lfm_deploy.scoring.identities import identify
from lfm_deploy.workdir import Workdir


def test_everything_that_a_logit_depends_on_is_named(small_workdir):
    pytorch, graph = (identify(one) for one in find_candidates(small_workdir, "cpu"))
    assert pytorch["version"] == {"torch": version("torch")}
    assert graph["version"]["onnxruntime"] == version("onnxruntime")
    assert graph["settings"]["threads"] == count_cores()
    for identity in (pytorch, graph):
        assert identity["processor"]
        assert (identity["device"], identity["cores"]) == ("cpu", count_cores())
    assert pytorch["file"] != graph["file"]


def test_where_the_gpu_cannot_be_told_nothing_is_kept(small_workdir, no_gpu):
    assert [identify(one) for one in find_candidates(small_workdir, "cuda")] == [None, None, None]


def test_on_a_gpu_its_name_and_driver_are_named(small_workdir, gpu):
    identity = identify(find_candidates(small_workdir, "cuda")[0])
    assert identity["gpus"] == [{"name": gpu.name, "sm": gpu.sm}]
    assert identity["driver"] > 0


def test_a_gpu_engine_without_a_gpu_says_why_it_cannot_run(deployment, no_gpu):
    engine = find_candidates(deployment, "cpu")[-1]
    with pytest.raises(UnavailableError, match="no CUDA device"):
        identify(engine)


def test_a_plan_of_another_version_is_stale_although_it_could_not_run(deployment, tmp_path):
    shutil.copytree(deployment.path, tmp_path / "deploy")
    workdir = Workdir(tmp_path / "deploy")
    sidecar = sidecar_path(workdir.engine(Precision.FP16, "sm86"))
    number = load_library("tensorrt-rtx").version
    info = read_engine_info(workdir.engine(Precision.FP16, "sm86"))
    assert info.library_version == number
    sidecar.write_text(replace(info, library_version="1.0").to_json())
    engine = next(one for one in find_candidates(workdir, "cpu") if one.path == workdir.engine(Precision.FP16, "sm86"))
    with pytest.raises(ArtifactError, match=r"stale: built with tensorrt-rtx 1\.0"):
        identify(engine)
