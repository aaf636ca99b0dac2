import json
import shutil
from dataclasses import replace

import pytest

from calib.ranges import check_ranges, read_ranges
from engines.cpu_choice import choose_cpu_settings
from engines.cpu_settings import CHOICES, find_settings
from export.graph import ExportConfig
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.cli import run
from lfm_deploy.contract import ThresholdOrigin
from lfm_deploy.deployment.deployment import export_into, make_typed_graph
from lfm_deploy.deployment.lineup import check_engine, find_candidates, find_contract
from lfm_deploy.engine_info import read_engine_info
from lfm_deploy.errors import ArtifactError
from lfm_deploy.quantisation import Recipe
from lfm_deploy.thresholds.stamping import stamp_workdir


def stamp(workdir, threshold=1.5, low=None):
    origin = ThresholdOrigin(
        checkpoint_sha256=read_graph_info(workdir.graph(Precision.FP32)).checkpoint_sha256,
        pictures="mine",
        pictures_sha256="0" * 64,
        real=500,
        fake=0,
        rate=0.01,
        confidence=0.95,
        at="2026-11-27T15:00:00Z",
    )
    return stamp_workdir(workdir, threshold, low, origin, {"threshold": threshold}, print)


def test_every_graph_and_engine_has_it_and_none_is_stale(own_deployment):
    before = {path: read_engine_info(path) for path in own_deployment.engines()}
    stamped = stamp(own_deployment, 1.5, -0.5)
    assert len(stamped.files) == 4
    for path in own_deployment.graphs():
        assert read_graph_info(path).contract.decision == (1.5, -0.5)
    for path, old in before.items():
        info = read_engine_info(path)
        check_engine(own_deployment, path, info)
        assert info.contract.decision == (1.5, -0.5)
        assert info.fingerprint != old.fingerprint
        assert replace(info, contract=old.contract, onnx_sha256=old.onnx_sha256, fingerprint=old.fingerprint) == old
    assert {candidate.threshold for candidate in find_candidates(own_deployment, "cpu")} == {1.5}
    assert json.loads(own_deployment.threshold.read_text()) == {"threshold": 1.5}


def test_an_engine_that_is_built_afterwards_would_be_the_same(own_deployment):
    from engines.builder import BuildConfig
    from engines.library import load_library
    from lfm_deploy.deployment.deployment import BuildTarget, build_into

    stamp(own_deployment)
    (path,) = [one for one in own_deployment.engines() if ".fp16." in one.name]
    stamped = read_engine_info(path)
    target = BuildTarget(load_library("tensorrt-rtx"), ("sm86",), "for the tests")
    build_into(own_deployment, Precision.FP16, target, BuildConfig(batch=(1, 4, 8)), on_message=print)
    assert read_engine_info(path).fingerprint == stamped.fingerprint


def test_a_typed_graph_is_not_made_again_and_a_new_one_gets_the_threshold(own_deployment):
    stamp(own_deployment)
    path = own_deployment.graph(Precision.FP16)
    before = path.read_bytes()
    said = []
    make_typed_graph(own_deployment, Precision.FP16, said.append)
    assert not said
    path.unlink()
    make_typed_graph(own_deployment, Precision.FP16, said.append)
    assert path.read_bytes() == before


def test_the_same_checkpoint_exported_again_keeps_it_and_another_one_does_not(
    own_deployment, small_checkpoint, other_checkpoint
):
    stamp(own_deployment)
    said = []
    export_into(own_deployment, small_checkpoint, ExportConfig(), said.append)
    assert find_contract(own_deployment).threshold == 1.5
    assert said[-1].startswith("keeping the threshold 1.5, chosen on 500 real")
    export_into(own_deployment, other_checkpoint, ExportConfig(), said.append)
    assert find_contract(own_deployment).threshold == 0
    assert "the threshold 1.5 was of another graph and goes" in said[-1]


def test_an_artifact_with_another_threshold_than_the_rest_is_refused(own_deployment, deployment):
    stamp(own_deployment)
    shutil.copy(deployment.graph(Precision.FP16), own_deployment.graph(Precision.FP16))
    for path in own_deployment.engines():
        path.unlink()
    with pytest.raises(ArtifactError, match=r"its threshold is 0, that of the others here 1.5"):
        find_candidates(own_deployment, "cpu")


def test_ranges_stay_valid_and_int8_is_chosen_anew(own_calibrated):
    stamped = stamp(own_calibrated)
    from calib.calibration import calibration_versions

    path = own_calibrated.graph(Precision.FP32)
    ranges = read_ranges(own_calibrated.ranges)
    check_ranges(ranges, own_calibrated.ranges, path, read_graph_info(path), calibration_versions())
    assert ranges.contract.threshold == 1.5
    assert [line.partition(":")[0] for line in stamped.to_renew] == ["lfm.int8.onnx", "lfm.int8.cpu.onnx"]
    assert "lfm-deploy build --int8 --target cpu" in stamped.to_renew[1]
    assert read_graph_info(own_calibrated.graph(Precision.INT8, Recipe.CPU)).contract.threshold == 1.5
    assert run(["inspect", str(own_calibrated.path)]) == 0


def test_what_was_measured_on_this_cpu_stays_measured(own_tile_workdir, quick_choice):
    from engines.cpu_settings import describe_place

    path = own_tile_workdir.graph(Precision.FP32)
    CHOICES.write(own_tile_workdir.path, choose_cpu_settings(own_tile_workdir, path), describe_place())
    chosen = find_settings(path)
    assert chosen is not None
    stamp(own_tile_workdir)
    assert find_settings(path) == chosen
