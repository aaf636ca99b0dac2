import shutil

import pytest

from lfm_deploy.benchmark.baselines import open_baseline
from lfm_deploy.config import NPR
from lfm_deploy.errors import ArtifactError, CheckpointError
from lfm_deploy.network.checkpoint import write_checkpoint
from lfm_deploy.network.model import LFM
from lfm_deploy.workdir import Workdir


def test_a_checkpoint_is_exported_for_the_time_of_the_measurement(small_checkpoint):
    said = []
    with open_baseline(small_checkpoint, "cpu", said.append) as candidates:
        assert [one.name for one in candidates] == ["small pytorch fp32", "small onnxruntime fp32"]
        assert all(one.path.is_file() for one in candidates)
        home = candidates[0].path.parent
    assert not home.exists()
    assert "exporting" in said[0]


def test_a_workdir_of_a_published_network_is_called_by_its_name(small_workdir, tmp_path):
    own = Workdir(tmp_path / "other")
    shutil.copytree(small_workdir.path, own.path)
    with open_baseline(own.path, "cpu", print) as candidates:
        assert [one.name for one in candidates] == ["other pytorch fp32", "other onnxruntime fp32"]
    for path in own.graphs():
        path.unlink()
    write_checkpoint(own.checkpoint, LFM(NPR))
    with open_baseline(own.path, "cpu", print) as candidates:
        assert [one.name for one in candidates] == ["npr pytorch fp32"]


def test_what_is_no_network_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="nothing has been exported"), open_baseline(tmp_path, "cpu", print):
        pass
    with pytest.raises(CheckpointError, match="no such file"), open_baseline(tmp_path / "x.pth", "cpu", print):
        pass
