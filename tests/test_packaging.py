import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from lfm_deploy.version import __version__

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"lfm_deploy", "export", "engines", "training", "calib"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_five_packages_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.split("/")[0] for name in names}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == PACKAGES
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {"page.html", "style.css"} <= {name.removeprefix("lfm_deploy/report/templates/") for name in names}
    assert {"lfm_deploy/suites/published.csv", "engines/cards.csv"} <= set(names)
    assert {"lfm_deploy/report/explore.html", "training/recipes/paper.toml"} <= set(names)


def test_the_wheel_describes_itself_by_readme(wheel):
    archive = zipfile.ZipFile(wheel)
    (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    assert archive.read(metadata).decode().endswith((ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_source_holds_what_readme_speaks_of(tmp_path):
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        path.relative_to(ROOT).as_posix() for folder in ("docs", "benchmarks") for path in ROOT.glob(f"{folder}/*.*")
    }
    wanted |= {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "Makefile", "constraints.txt"}
    assert wanted <= names


def test_the_version_is_told_from_the_wheel_in_an_empty_environment(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "empty"], check=True)
    site = next((tmp_path / "empty" / "lib").glob("python*/site-packages"))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-warn-script-location",
         "--root-user-action=ignore", "--prefix", tmp_path / "empty", "--ignore-installed", wheel],
        check=True,
    )  # fmt: skip
    # click is the one library that the command line needs; it is taken from here, as the index may be out of reach.
    for file in distribution("click").files:
        if file.parts[0] == "click":
            target = site / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), target)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(
        [tmp_path / "empty" / "bin" / "python", "-m", "lfm_deploy", "--version"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout == f"lfm-deploy, version {__version__}\n"
    script = (tmp_path / "empty" / "bin" / "lfm-deploy").read_text()
    assert "from lfm_deploy.cli import main" in script


def test_importing_the_package_and_asking_for_help_loads_nothing_heavy():
    check = (
        "import sys, lfm_deploy, lfm_deploy.cli; lfm_deploy.cli.run(['--help']); "
        "heavy = {'torch', 'onnx', 'numpy', 'rich', 'PIL', 'sklearn', 'tensorrt_rtx'} & set(sys.modules); "
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    finished = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr


def test_every_public_name_is_found_and_documented():
    import lfm_deploy

    undocumented = [
        name for name in lfm_deploy.__all__ if name != "__version__" and not getattr(lfm_deploy, name).__doc__
    ]
    assert undocumented == []
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lfm_deploy.nothing  # noqa: B018
