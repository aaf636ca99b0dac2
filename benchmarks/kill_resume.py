"""Does ``lfm-deploy predict --output`` survive kill -9 at random moments? Over as many pictures as one likes.

    python benchmarks/kill_resume.py deploy --files 10000 --kills 10

One run is left alone. Another is killed at random moments, started again with the same arguments until it ends by
itself, and must have written the same file, byte for byte. The moments are drawn from the time that the first run took.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from file_to_verdict import link_files, make_files

from lfm_deploy.errors import GateError
from lfm_deploy.prediction.resumption import progress_path
from lfm_deploy.storage.atomic import sha256_of_file

_ORIGINALS = 120
_BROKEN_EVERY = 97


@click.command()
@click.argument("workdir", type=click.Path(path_type=Path))
@click.option("--files", default=10_000, show_default=True)
@click.option("--kills", default=10, show_default=True)
@click.option("--precision", default="int8", show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(workdir: Path, files: int, kills: int, precision: str, seed: int) -> None:
    """Run, kill, compare."""
    random_ = random.Random(seed)  # noqa: S311  # moments, not secrets
    with tempfile.TemporaryDirectory(prefix="lfm-kills-") as temporary:
        folder = Path(temporary) / "pictures"
        link_files(make_files(Path(temporary) / "originals", _ORIGINALS), folder, files)
        for index in range(0, files, _BROKEN_EVERY):
            (folder / f"{index:05}-broken.png").write_bytes(b"broken")
        whole, killed = Path(temporary) / "whole.csv", Path(temporary) / "killed.csv"
        command = [sys.executable, "-m", "lfm_deploy", "predict", str(folder)]
        command += ["--workdir", str(workdir), "--precision", precision, "--output"]
        start = time.monotonic()
        subprocess.run([*command, str(whole)], check=True)
        seconds = time.monotonic() - start
        for number in range(kills):
            process = subprocess.Popen([*command, str(killed)], stderr=subprocess.DEVNULL)
            try:
                process.wait(timeout=random_.uniform(0, 2 * seconds / kills))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            rows = killed.read_bytes().count(b"\n") if killed.is_file() else 0
            click.echo(f"kill {number + 1}: exit {process.returncode}, {rows} lines, {_pictures(killed)} pictures safe")
            if process.returncode == 0:
                break
        else:
            subprocess.run([*command, str(killed)], check=True)
        if whole.read_bytes() != killed.read_bytes() or progress_path(killed).exists():
            raise GateError(f"{killed}: differs from the file of an uninterrupted run")
        click.echo(f"the same file byte for byte, sha256 {sha256_of_file(killed)[:12]}, {files} pictures")


def _pictures(output: Path) -> str:
    path = progress_path(output)
    return path.read_text().partition('"pictures": ')[2].partition(",")[0] if path.is_file() else "no"


if __name__ == "__main__":
    main()
