import json
import re
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from own_loop import run_apart

from export.graph import ExportConfig
from lfm_deploy.artifacts import Precision
from lfm_deploy.deployment.deployment import export_into
from lfm_deploy.deployment.golden import check_logit, make_golden, read_golden
from lfm_deploy.errors import ArtifactError, ContractError, GateError
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.prediction.judges import open_judge
from lfm_deploy.prediction.prediction import predict
from lfm_deploy.serving.settings import ServiceSettings
from lfm_deploy.serving.verdicts import VerdictDesk
from lfm_deploy.serving.warm_up import find_golden, warm_up
from lfm_deploy.storage.sealed_values import seal_values
from lfm_deploy.workdir import Workdir


def run(judge, golden, **settings):
    async def main():
        with ThreadPoolExecutor(1) as thread:
            desk = VerdictDesk(judge, ServiceSettings(**settings), thread)
            desk.batcher.start()
            try:
                await warm_up(desk, golden)
            finally:
                await desk.close()
            assert desk.batcher.delay_s == desk.settings.max_delay_ms / 1000

    run_apart(main())


@pytest.fixture
def own(deployment, tmp_path):
    shutil.copytree(deployment.path, tmp_path / "deploy")
    return Workdir(tmp_path / "deploy")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_of_the_export_gives_the_stored_logits(deployment, precision):
    judge = open_judge(deployment, precision=precision)
    run(judge, find_golden(judge))


def test_the_stored_logits_are_those_of_predict(deployment):
    golden = read_golden(deployment.golden)
    rows = {row.path.rpartition("/")[2]: row.logit for row in predict(deployment.golden, workdir=deployment)}
    assert {picture.name for picture in golden.pictures} == set(rows)
    for picture in golden.pictures:
        check_logit(picture, rows[picture.name], "fp32", "predict")
    assert {picture.name.rpartition(".")[2] for picture in golden.pictures} == {"png", "jpeg"}


def test_the_same_export_makes_the_same_bytes(deployment):
    assert make_golden(read_checkpoint(deployment.checkpoint), 256) == deployment.golden.read_bytes()


def test_another_logit_is_not_let_through(deployment):
    judge, golden = open_judge(deployment), read_golden(deployment.golden)
    first, *others = golden.pictures
    moved = replace(first, logit=first.logit + 2e-4 * first.terms)
    with pytest.raises(GateError, match=rf"{first.name}.*expected"):
        run(judge, replace(golden, pictures=(moved, *others)))


def test_one_grey_level_in_the_decoder_is_seen(deployment, monkeypatch):
    """What another decoder would do: every third value off by one."""
    from lfm_deploy.pictures import pipeline

    original = pipeline.decode_picture

    def shifted(*args):
        pixels = original(*args).copy()
        pixels.ravel()[::3] ^= 1
        return pixels

    judge, golden = open_judge(deployment), read_golden(deployment.golden)
    monkeypatch.setattr(pipeline, "decode_picture", shifted)
    with pytest.raises(GateError, match="decoder"):
        run(judge, golden)


def test_a_logit_that_is_no_number_fails(deployment):
    picture = read_golden(deployment.golden).pictures[0]
    with pytest.raises(GateError):
        check_logit(picture, float("nan"), "fp32", "here")
    check_logit(picture, picture.logit, "fp32", "here")
    check_logit(picture, picture.logit + 1e-3 * picture.terms, "of another kind", "here")


def test_golden_pictures_of_another_checkpoint_are_refused(own, other_checkpoint):
    own.golden.write_bytes(make_golden(read_checkpoint(other_checkpoint), 256))
    with pytest.raises(ArtifactError, match="another checkpoint"):
        find_golden(open_judge(own))


def test_golden_pictures_of_another_size_are_refused(own, small_checkpoint):
    own.golden.write_bytes(make_golden(read_checkpoint(small_checkpoint), "native"))
    with pytest.raises(ContractError, match="at size native"):
        find_golden(open_judge(own))


def test_a_missing_archive_names_the_command(own):
    own.golden.unlink()
    with pytest.raises(ArtifactError, match="lfm-deploy export"):
        find_golden(open_judge(own))


@pytest.mark.parametrize(
    "damage", ["cut", "bit", "text", "empty", "version", "other picture", "no index", "no picture", "digit"]
)
def test_a_damaged_archive_is_refused(own, damage):
    content = own.golden.read_bytes()
    with zipfile.ZipFile(own.golden) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    index = files["golden.json"]
    if damage == "version":
        files["golden.json"] = index.replace(b"golden 1", b"golden 9")
    elif damage == "other picture":
        files["png0.png"] = files["png1.png"]
    elif damage == "no index":
        del files["golden.json"]
    elif damage == "no picture":
        values = {"format": "lfm-deploy golden 1", "checkpoint_sha256": "0" * 64, "size": 256, "pictures": []}
        files["golden.json"] = json.dumps(seal_values(values)).encode()
    elif damage == "digit":
        files["golden.json"] = re.sub(rb'"logit": (-?)\d', rb'"logit": \g<1>9', index, count=1)
    with zipfile.ZipFile(own.golden, "w") as archive:
        for name, part in files.items():
            archive.writestr(name, part)
    raw = {
        "cut": content[:-100],
        "bit": content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
        "text": b"no archive",
        "empty": b"",
    }
    if damage in raw:
        own.golden.write_bytes(raw[damage])
    with pytest.raises(ArtifactError, match=r"golden\.zip.*lfm-deploy export"):
        read_golden(own.golden)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_an_archive_that_was_packed_again_is_taken_and_damage_in_it_is_refused(own, method):
    whole = read_golden(own.golden)
    with zipfile.ZipFile(own.golden) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(own.golden, "w", method) as archive:
        for name, part in files.items():
            archive.writestr(name, part)
        first = archive.infolist()[0]
    assert read_golden(own.golden) == whole
    content = bytearray(own.golden.read_bytes())
    start = first.header_offset + 30 + len(first.filename) + 20
    content[start : start + 200] = b"\xff" * 200
    own.golden.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"golden\.zip.*damaged.*lfm-deploy export"):
        read_golden(own.golden)


def test_export_writes_it_for_native_sizes(small_checkpoint, tmp_path):
    workdir = Workdir(tmp_path)
    export_into(workdir, small_checkpoint, ExportConfig(size="native"), lambda _: None)
    judge = open_judge(workdir, batch=3)
    run(judge, find_golden(judge))
    assert judge.path == workdir.graph(Precision.FP32)
