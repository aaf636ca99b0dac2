import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from engines.loading import load_engine
from export.graph import ExportConfig
from lfm_deploy.artifacts import Precision
from lfm_deploy.deployment.deployment import export_into
from lfm_deploy.errors import ArtifactError, WriteError
from lfm_deploy.network.checkpoint import read_checkpoint, write_checkpoint
from lfm_deploy.network.evidence import draw_evidence, evidence_contributions, evidence_map
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.prediction.overlays import OverlayWriter, overlay_name
from lfm_deploy.prediction.prediction import predict
from lfm_deploy.prediction.rows import Prediction
from lfm_deploy.workdir import Workdir


@pytest.fixture(scope="module")
def explaining(small_checkpoint, tmp_path_factory):
    """A workdir whose graph has outputs for evidence."""
    workdir = Workdir(tmp_path_factory.mktemp("explaining") / "deploy")
    export_into(workdir, small_checkpoint, ExportConfig(evidence=True), lambda _: None)
    return workdir


@pytest.fixture
def folders(tmp_path):
    """Pictures of the same name in two folders."""
    for folder, tile in zip(("a", "b"), sample_tiles(256, 256, 2), strict=True):
        (tmp_path / folder).mkdir()
        Image.fromarray(tile).save(tmp_path / folder / "x.png")
    return tmp_path


def drawn_by_hand(workdir, tile):
    engine = load_engine(workdir.graph(Precision.FP32))
    evidence = engine.evidence(tile[None])
    weight = read_checkpoint(workdir.checkpoint).state["fc.weight"].numpy()
    shares = evidence_contributions(evidence.values, weight)[0]
    return np.asarray(draw_evidence(tile, evidence_map(shares, evidence.positions[0], engine.config, 256, 256)))


@pytest.mark.parametrize("of_engine", [True, False])
def test_each_picture_has_its_overlay_from_the_engine_or_from_the_checkpoint(
    explaining, small_workdir, folders, of_engine
):
    workdir = explaining if of_engine else small_workdir
    names = ["a/x.png", "none.png", "b/x.png"]
    list(predict([folders / name for name in names], workdir=workdir, evidence=folders / "drawn"))
    assert sorted(path.name for path in (folders / "drawn").iterdir()) == ["000001-x.png", "000003-x.png"]
    for name, tile in zip(("000001-x.png", "000003-x.png"), sample_tiles(256, 256, 2), strict=True):
        with Image.open(folders / "drawn" / name) as drawn:
            difference = np.abs(np.asarray(drawn).astype(int) - drawn_by_hand(explaining, tile))
        # Both runtimes select from float32 sums in different orders: where two values tie, another one may win.
        assert (difference.max() == 0) if of_engine else (np.mean(difference > 2) < 0.01)


def test_who_explains(explaining, small_workdir, tmp_path):
    graph = explaining.graph(Precision.FP32)
    assert OverlayWriter(tmp_path, explaining, load_engine(graph), graph).origin == "lfm.onnx"
    graph = small_workdir.graph(Precision.FP32)
    assert OverlayWriter(tmp_path, small_workdir, load_engine(graph), graph).origin == "lfm.pth in PyTorch, float32"


def test_without_its_checkpoint_there_is_no_evidence(small_workdir, small_checkpoint, tmp_path):
    shutil.copytree(small_workdir.path, tmp_path / "own")
    own = Workdir(tmp_path / "own")
    graph = own.graph(Precision.FP32)
    engine = load_engine(graph)
    own.checkpoint.unlink()
    with pytest.raises(ArtifactError, match=r"lfm-deploy export CHECKPOINT.pth --evidence --workdir"):
        OverlayWriter(tmp_path, own, engine, graph)
    other = read_checkpoint(small_checkpoint)
    model = other.build_model()
    torch.nn.init.zeros_(model.fc.bias)
    write_checkpoint(own.checkpoint, model)
    with pytest.raises(ArtifactError, match="was made from another checkpoint"):
        OverlayWriter(tmp_path, own, engine, graph)


def test_a_folder_that_cannot_be_made(small_workdir, tmp_path):
    (tmp_path / "file").touch()
    graph = small_workdir.graph(Precision.FP32)
    with pytest.raises(WriteError, match=r"cannot be written.*--evidence"):
        OverlayWriter(tmp_path / "file", small_workdir, load_engine(graph), graph)


def test_names_never_collide_and_never_leave_the_folder():
    paths = ["a/x.png", "b/x.png", "s.zip/../../evil.png", "q/we ird\n*.jpg", "y" * 300 + ".png", ".."]
    names = [overlay_name(Prediction(index=index, path=path)) for index, path in enumerate(paths)]
    assert names[:4] == ["000001-x.png", "000002-x.png", "000003-evil.png", "000004-we_ird__.png"]
    assert len(set(names)) == len(names)
    assert not any("/" in name or len(name.encode()) > 120 for name in names)
