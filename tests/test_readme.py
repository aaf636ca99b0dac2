import re
from pathlib import Path

from PIL import Image

from export.graph import ExportConfig
from lfm_deploy.cli import _COMMANDS, run
from lfm_deploy.deployment.deployment import export_into
from lfm_deploy.workdir import Workdir

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def test_the_python_of_readme_runs(small_checkpoint, pictures, tmp_path, monkeypatch):
    export_into(Workdir(tmp_path / "deploy"), small_checkpoint, ExportConfig(evidence=True), print)
    monkeypatch.chdir(tmp_path)
    names = {"paths": sorted(pictures.rglob("*.png"))[:3]}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)  # noqa: S102  # it is our own README
    assert names["is_fake"].shape == (3,)
    with Image.open("evidence.png") as drawn:
        assert drawn.size == (256, 256)


def test_the_commands_of_readme_exist(capfd):
    named = set(re.findall(r"lfm-deploy (\w+)", README)) - {"deploy"}
    assert named <= set(_COMMANDS)
    for command in _COMMANDS:
        assert run([command, "--help"]) == 0
        text = capfd.readouterr().out
        for option in re.findall(rf"lfm-deploy {command}[^`\n]*?(--[a-z0-9-]+)", README):
            assert option in text
