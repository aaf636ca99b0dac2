import json

from lfm_deploy.cli import run
from lfm_deploy.cli.demonstration import LEAST_AP
from lfm_deploy.deployment.inspection import inspect_artifact
from training.demonstration_data import make_demonstration_split
from training.recipe import read_recipe


def test_the_demo_runs_the_whole_chain(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run(["demo", "--json"]) == 0
    out, err = capfd.readouterr()
    report = json.loads(out)
    reference = report["engines"][0]["suites"][0]
    assert reference["mean"]["ap"]["value"] >= 100 * LEAST_AP
    # No picture that was tested on was trained on, so accuracy at the threshold says something too.
    assert reference["mean"]["acc"]["value"] > 90
    assert {engine["name"] for engine in report["engines"]} >= {"pytorch fp32", "onnxruntime fp32", "onnxruntime fp16"}
    assert any("int8 cpu" in engine["name"] for engine in report["engines"])
    # So small a network is bound by what its first stage moves, which INT8 does not change.
    assert report["demo"]["without_int8"].keys() == {"tensorrt"}
    assert "no choice of layers beats FP16" in report["demo"]["without_int8"]["tensorrt"]
    assert report["verdict"]["outcome"] == "passed"
    page = (tmp_path / "deploy-demo" / "report.html").read_text()
    assert all(f'<section id="{part}">' in page for part in ("engines", "gates", "curves", "speed", "int8"))
    assert all(speed["fps"] > 0 for engine in report["engines"] for speed in engine["speeds"])
    assert sorted(path.name for path in (tmp_path / "deploy-demo").glob("*.engine"))
    recipe = inspect_artifact(tmp_path / "deploy-demo" / "lfm.pth")["recipe"]
    # What 'lfm-deploy train --recipe demo' trains, on the same pixels; runs repeat bit for bit, see test_run.py.
    split = make_demonstration_split(read_recipe("demo").tiles, read_recipe("demo").augmentation(), 0)
    assert recipe.items() >= (read_recipe("demo").as_dict() | {"data_sha256": split.sha256}).items()
    assert "6/6 verify" in err
