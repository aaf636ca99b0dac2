"""Do the lowest versions that pyproject.toml allows really work? All of them together, in an environment of their own.

    python benchmarks/lowest.py .lowest

uv, in .lowest/tool, resolves every direct dependency and all extras that install without a GPU to the lowest version
that is allowed; of torch that is what pip has for this machine, since an open range would bring gigabytes for CUDA.
Then training, export, calibration, builds, verification and verdicts run there, and the tests. `make lowest` does all.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
from PIL import Image

from lfm_deploy.errors import GateError
from lfm_deploy.pictures.photographs import sample_tiles

ROOT = Path(__file__).resolve().parents[1]
# Not `gpu`, whose libraries lie on an index of their own, `lean`, which the tests have in several versions (`make
# lean`), and `pycuda`, which has to be compiled with CUDA.
_EXTRAS = (
    "cpu",
    "openvino",
    "amx",
    "rtx",
    "kernels",
    "fast-jpeg",
    "heic",
    "demo",
    "provenance",
    "parquet",
    "ray",
    "remote",
    "train",
    "serve",
    "dev",
)
# What these look at is no library's version: the tools of this checkout, its pages, its wheel.
_ELSEWHERE = ("imports", "docstrings", "documentation", "packaging", "readme", "lower_bounds")
_RECIPE = (
    'base = "demo"\ntiles = 2\nepochs = 2\nbatch = 8\ncrop = 64\n[model]\nwidths = [4, 8, 8, 16]\nprojection = 8\n'
)
_COMMANDS = (
    ("train --recipe tiny.toml --output run --device cpu", (0,)),
    ("export run/best.pth --workdir deploy", (0,)),
    ("build --fp16 --gpu sm86 --batch 1,4,8 --workdir deploy", (0,)),
    ("build --fp32 --target cpu --workdir deploy", (0,)),
    ("calibrate suite --count 32 --workdir deploy", (0,)),
    ("build --int8 --layers all --budget acc=90,ap=90,flips=90% --target cpu --workdir deploy", (0,)),
    # So few pictures of so small a network decide nothing; what counts is that every engine was compared.
    ("verify --suite suite --no-speed --allow-undecided --workdir deploy", (0, 1)),
    ("predict suite --workdir deploy", (0,)),
    ("predict suite --workdir deploy --precision int8", (0,)),
    ("explore suite --workdir deploy --output explored", (0,)),
    ("inspect deploy", (0,)),
    ("profile --config lfm", (0,)),
)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--tests", default="tests", show_default=True, help="Tests to run, with spaces between; empty runs none.")
def main(folder: Path, tests: str) -> None:
    """Resolve, install, run the commands and the tests, and say which versions were tried."""
    folder = folder.resolve()
    versions = resolve(folder)
    python = install(folder, versions)
    run_commands(python, folder / "work")
    if tests:
        ignored = [f"--ignore=tests/test_{name}.py" for name in _ELSEWHERE]
        # Warnings of old libraries about each other are nobody's to mend here.
        options = ["-q", "-p", "no:cacheprovider", "-o", "filterwarnings=default", *ignored]
        _run([str(python), "-m", "pytest", *options, *tests.split()], ROOT)
    click.echo("these versions were tried, the lowest that pyproject.toml allows:")
    names = {name for name, _ in read_bounds()}
    for line in versions:
        if re.split("[=@]", line)[0] in names:
            click.echo(f"  {line}")


def read_bounds() -> list[tuple[str, str]]:
    """Names and lower bounds of all direct dependencies that are tried, as ``("numpy", "1.26")``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [one for extra in _EXTRAS for one in project["optional-dependencies"][extra]]
    found = [re.match(r"([\w-]+)(?:\[[\w,-]+\])?>=([\w.]+)", one) for one in (*project["dependencies"], *extras)]
    return [(one[1], one[2]) for one in found if one]


def resolve(folder: Path) -> list[str]:
    """Pins of everything, the lowest of what is asked for directly, by name; torch as pip has it."""
    folder.mkdir(exist_ok=True)
    without = folder / "without-torch.txt"
    without.write_text('torch; python_version < "0"\n')
    command = [str(folder / "tool/bin/uv"), "pip", "compile", "--quiet", "--resolution", "lowest-direct"]
    command += ["--override", str(without), "--no-annotate", "--no-header", str(ROOT / "pyproject.toml")]
    found = subprocess.run(
        [*command, *(f"--extra={extra}" for extra in _EXTRAS)], check=True, capture_output=True, text=True
    )
    torch = next(bound for name, bound in read_bounds() if name == "torch")
    return [*found.stdout.split("\n")[:-1], f"torch=={torch}"]


def install(folder: Path, versions: list[str]) -> Path:
    """The Python of an environment with these versions, made anew where they are others."""
    python, noted = folder / "env/bin/python", folder / "lowest.txt"
    pins = "".join(f"{line}\n" for line in versions)
    if not noted.exists() or noted.read_text() != pins:
        shutil.rmtree(folder / "env", ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder / "env")], ROOT)
        (folder / "wanted.txt").write_text(pins)
        _run([str(python), "-m", "pip", "install", "--quiet", "-r", str(folder / "wanted.txt")], ROOT)
        (folder / "wanted.txt").rename(noted)
    return python


def run_commands(python: Path, folder: Path) -> None:
    """A tiny network from training to verdicts."""
    shutil.rmtree(folder, ignore_errors=True)
    for index, tile in enumerate(sample_tiles(64, 64, 40)):
        home = folder / "suite" / ("0_real", "1_fake")[index % 2]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tile).save(home / f"{index:02}.png")
    (folder / "tiny.toml").write_text(_RECIPE)
    for words, codes in _COMMANDS:
        _run([str(python), "-m", "lfm_deploy", *words.split()], folder, codes)


def _run(command: list[str], folder: Path, codes: tuple[int, ...] = (0,)) -> None:
    click.echo(f"$ {' '.join(command)}")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, check=False)
    if done.returncode not in codes:
        raise GateError(f"exit code {done.returncode}, expected {' or '.join(map(str, codes))}: {' '.join(command)}")


if __name__ == "__main__":
    main()
