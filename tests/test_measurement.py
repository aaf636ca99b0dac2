import csv
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest

import lfm_deploy
from lfm_deploy.artifacts import METADATA_KEY, Precision, read_graph_info
from lfm_deploy.cli import run
from lfm_deploy.errors import ArtifactError
from lfm_deploy.storage.graph_file import seal_graph
from lfm_deploy.thresholds.threshold_values import ThresholdValues
from lfm_deploy.workdir import Workdir


@pytest.fixture
def own_workdir(small_workdir, tmp_path):
    shutil.copytree(small_workdir.path, tmp_path / "deploy")
    return Workdir(tmp_path / "deploy")


def run_json(capsys, *words):
    code = run([str(word) for word in words])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def test_the_threshold_is_used_by_predict_and_verify(own_workdir, pictures, capsys):
    before = list(lfm_deploy.predict(pictures, workdir=own_workdir))
    # 12 real pictures can show no less than 22.1 %.
    values = run_json(capsys, "threshold", pictures, "--fpr", "25%", "--band", "--workdir", own_workdir.path, "--json")
    assert values.keys() == ThresholdValues.__annotations__.keys()
    assert values == json.loads(own_workdir.threshold.read_text())
    assert (values["origin"]["real"], values["origin"]["fake"]) == (12, 12)
    assert [group["name"] for group in values["groups"]] == ["first", "second"]
    contract = read_graph_info(own_workdir.graph(Precision.FP32)).contract
    assert contract.decision == (values["threshold"], values["uncertain_above"])
    real = [row.logit for row in before if "0_real" in row.path]
    assert max(real) < values["threshold"]

    after = list(lfm_deploy.predict(pictures, workdir=own_workdir))
    low = values["uncertain_above"]
    expected = [
        "fake" if row.logit > values["threshold"] else "uncertain" if low is not None and row.logit > low else "real"
        for row in before
    ]
    assert [row.verdict for row in after] == expected
    assert "uncertain" in expected

    report = run_json(capsys, "verify", "--suite", pictures, "--workdir", own_workdir.path, "--no-speed", "--json")
    assert report["threshold"] == values["threshold"]
    assert report["threshold_origin"]["rate"] == 0.25
    assert report["engines"][1]["cached"] == 24  # the graph has changed, and none of its logits
    assert f"at the threshold {values['threshold']:g}, uncertain above" in report["verdict"]["threshold"]
    gates = {gate["name"]: gate["outcome"] for gate in report["engines"][1]["gates"]}
    assert gates["verdicts that cross the lower end of the band in %"] == "holds"
    mean = report["engines"][0]["suites"][0]["mean"]
    assert mean["acc_real"]["value"] == 100  # that of the checkpoint in PyTorch, which has no contract of its own
    assert run(["inspect", str(own_workdir.path)]) == 0
    assert f"threshold: {values['threshold']:g}" in capsys.readouterr().out


def test_a_threshold_of_ones_own_has_no_band(own_workdir, pictures, capsys):
    run_json(capsys, "threshold", pictures, "--fpr", "0.25", "--band", "0.25", "--workdir", own_workdir.path, "--json")
    rows = list(lfm_deploy.predict(pictures, workdir=own_workdir, threshold=0.0))
    assert {row.verdict for row in rows} == {"fake", "real"}


def test_a_checkpoint_of_the_workdir_decides_as_its_graphs_do(own_workdir, pictures, capsys):
    values = run_json(capsys, "threshold", pictures, "--fpr", "25%", "--workdir", own_workdir.path, "--json")
    graph, checkpoint = (
        [row.verdict for row in lfm_deploy.predict(pictures, workdir=own_workdir, engine=engine)]
        for engine in (None, own_workdir.checkpoint)
    )
    assert graph == checkpoint
    assert values["threshold"] != 0


def test_a_dry_run_writes_nothing(own_workdir, pictures, capsys):
    before = {path.name: path.read_bytes() for path in own_workdir.graphs()}
    words = ["threshold", pictures, "--fpr", "25%", "--dry-run", "--workdir", own_workdir.path, "--json"]
    run_json(capsys, *words)
    assert {path.name: path.read_bytes() for path in own_workdir.graphs()} == before
    assert not own_workdir.threshold.exists()


def test_real_pictures_alone_are_enough(own_workdir, pictures, tmp_path, capsys):
    shutil.copytree(pictures / "first", tmp_path / "one")
    shutil.copytree(pictures / "second" / "0_real", tmp_path / "one" / "0_real", dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "one" / "1_fake")
    words = ["threshold", tmp_path / "one", "--fpr", "25%", "--workdir", own_workdir.path]
    values = run_json(capsys, *words, "--json")
    assert values["all"]["fake_called_fake"] is None
    assert run([str(word) for word in words]) == 0
    assert "called fake" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "keep", "message"),
    [
        (["--fpr", "1%"], ("0_real", "1_fake"), "6 pictures cannot show a rate below 1 %"),
        (["--fpr", "50%"], ("1_fake",), "there is no real picture"),
        (["--fpr", "50%", "--band"], ("0_real",), "there is no fake"),
        (["--fpr", "50%"], (), "no picture in 0_real/"),
        (["--fpr", "none"], ("0_real",), "write 1% or 0.01"),
        (["--fpr", "100%"], ("0_real",), "write 1% or 0.01"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(own_workdir, pictures, tmp_path, capsys, options, keep, message):
    shutil.copytree(pictures / "first", tmp_path / "one")
    for name in {"0_real", "1_fake"} - set(keep):
        for path in (tmp_path / "one" / name).iterdir():
            path.unlink()
    assert run(["threshold", str(tmp_path / "one"), *options, "--workdir", str(own_workdir.path)]) == 2
    complaint = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in complaint


def stamp(path, contract):
    """The graph with another contract, sealed as ours are."""
    model = onnx.load(path)
    info = replace(read_graph_info(path), contract=contract)
    onnx.helper.set_model_props(model, {METADATA_KEY: info.to_json()})
    path.write_bytes(seal_graph(model))


def test_a_threshold_of_another_checkpoint_is_refused(own_workdir, pictures, capsys):
    run_json(capsys, "threshold", pictures, "--fpr", "25%", "--workdir", own_workdir.path, "--json")
    path = own_workdir.graph(Precision.FP32)
    contract = read_graph_info(path).contract
    stamp(path, replace(contract, chosen=replace(contract.chosen, checkpoint_sha256="0" * 64)))
    with pytest.raises(ArtifactError, match=r"chosen for another checkpoint.*lfm-deploy threshold"):
        read_graph_info(path)
    assert run(["predict", str(pictures), "--workdir", str(own_workdir.path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_logit_that_is_no_number_is_refused(own_workdir, pictures, capsys):
    path = own_workdir.graph(Precision.FP32)
    model = onnx.load(path)
    (bias,) = [one for one in model.graph.initializer if one.name == "head.bias"]
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(1, np.nan, np.float32), bias.name))
    path.write_bytes(seal_graph(model))
    assert run(["threshold", str(pictures), "--fpr", "25%", "--workdir", str(own_workdir.path)]) == 2
    assert "24 of 24 logits are no finite number" in capsys.readouterr().err
    assert not own_workdir.threshold.exists()


def test_rows_of_csv_say_uncertain(own_workdir, pictures, capsysbinary):
    words = ["threshold", str(pictures), "--fpr", "25%", "--band", "--workdir", str(own_workdir.path)]
    assert run(words) == 0
    capsysbinary.readouterr()
    assert run(["predict", str(pictures), "--format", "csv", "--workdir", str(own_workdir.path)]) == 0
    captured = capsysbinary.readouterr()
    rows = list(csv.DictReader(io.StringIO(captured.out.decode())))
    count = sum(row["verdict"] == "uncertain" for row in rows)
    assert f"{count} uncertain".encode() in captured.err
