"""Does a damaged or odd file ever lead to a wrong answer, a traceback, a hang, or a picture left out in silence?

    python benchmarks/fuzz.py --inputs 10000 --jobs 2
    python benchmarks/fuzz.py --only tar:17 --keep FOLDER

Whole files of every kind that the product reads are made by the product itself, from a tiny network and tiles of
photographs, or taken from a workdir. Each input damages one of them: bytes, values in JSON, TOML and pickles, headers
of archives, entries of folders. The command line then runs on it in a forked process of 3 GiB; one in 250 runs as a
command. Right is: exit code 0 to 3, no traceback, one line that names the file where the exit code is not 0, and with
exit code 0 the answers that a whole file gives, as Pillow and ONNX Runtime alone have them, and a word on each picture
that has none. A number with the seed names an input for good.
"""

import gc
import importlib
import json
import os
import shutil
import stat
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

from fuzzing.kinds import KINDS, find_kinds, share_out  # noqa: E402  # NumPy reads the number of threads when loaded
from fuzzing.pool import Found, run_all, run_item  # noqa: E402
from fuzzing.seed_making import make_seeds  # noqa: E402
from fuzzing.seeds import Seeds  # noqa: E402
from fuzzing.trial import GOOD, Result  # noqa: E402

_IMPORTED = (
    *("torch", "onnx", "onnxruntime", "safetensors.torch", "scipy.stats", "PIL.Image", "jinja2", "rich.progress"),
    *("lfm_deploy.cli.predict", "lfm_deploy.cli.inspect", "lfm_deploy.cli.suites", "lfm_deploy.cli.overview"),
    *("lfm_deploy.prediction.prediction", "lfm_deploy.deployment.inspection", "lfm_deploy.suites.survey"),
    *("engines.ort", "engines.pytorch", "engines.loading"),
)


@click.command()
@click.option("--inputs", default=10_000, show_default=True, help="Number of bad inputs.")
@click.option("--seed", default=0, show_default=True, help="Seed of all chance.")
@click.option("--jobs", default=2, show_default=True, help="Processes at a time.")
@click.option("--kinds", default="", help=f"Kinds, with commas between: {', '.join(kind.name for kind in KINDS)}.")
@click.option("--quick", is_flag=True, help="Leave out kinds that take seconds an input.")
@click.option("--workdir", type=click.Path(path_type=Path), help="Workdir to start from.  [default: a tiny one]")
@click.option(
    "--seeds", "kept", type=click.Path(path_type=Path), help="Folder of the whole files; used again if there."
)
@click.option("--only", metavar="KIND:NUMBER", help="Run one input again, and show what the product says.")
@click.option("--keep", type=click.Path(path_type=Path), help="With --only: folder to leave the input in.")
@click.option("--json", "as_json", is_flag=True, help="Print counts and faults as JSON.")
def main(
    inputs: int,
    seed: int,
    jobs: int,
    kinds: str,
    quick: bool,
    workdir: Path | None,
    kept: Path | None,
    only: str | None,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Make bad inputs, run the product on them, count what comes of it; exit code 1 where a fault was found."""
    names = tuple(filter(None, kinds.split(",")))
    if unknown := set(names) - {kind.name for kind in KINDS}:
        raise click.UsageError(f"no such kind: {', '.join(sorted(unknown))}")
    if only is not None:
        names = (only.rpartition(":")[0],)
    whole = not quick and any(not kind.quick for kind in KINDS if not names or kind.name in names)
    start = time.monotonic()
    with _open_seeds(kept, workdir, whole=whole) as seeds:
        if only is not None:
            _show(seeds, seed, (names[0], int(only.rpartition(":")[2])), keep)
            return
        chosen = find_kinds(seeds, names, quick=quick)
        _import_all()
        found: list[Found] = []
        run_all(seeds, seed, share_out(chosen, inputs), jobs, found.append)
        faults = sorted((one for one in found if one.is_fault), key=lambda one: (one.result, one.why, one.kind))
        if as_json:
            _print_json(seed, found, faults)
        else:
            _print(found, faults, time.monotonic() - start)
    sys.exit(1 if faults else 0)


@contextmanager
def _open_seeds(kept: Path | None, workdir: Path | None, *, whole: bool) -> Iterator[Seeds]:
    """Seeds in a folder that is kept, or in one that goes; made in a process of their own, which may start threads."""
    with tempfile.TemporaryDirectory(prefix="lfm-fuzz-") as temporary:
        folder = (kept or Path(temporary) / "seeds").resolve()
        if not (folder / "right.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            pid = os.fork()
            if not pid:
                _be_a_child(lambda: make_seeds(folder, workdir, whole=whole))
            if os.waitpid(pid, 0)[1]:
                raise click.ClickException("the whole files could not be made")
        yield Seeds(folder)


def _be_a_child(work: Callable[[], object]) -> None:
    import traceback

    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _import_all() -> None:
    """Load once what every process needs; what a library lacks, the product says."""
    for name in _IMPORTED:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()


def _find_pipes(folder: str, names: list[str]) -> set[str]:
    """Those that copying would wait for."""
    return {name for name in names if stat.S_ISFIFO((Path(folder) / name).lstat().st_mode)}


def _show(seeds: Seeds, seed: int, item: tuple[str, int], keep: Path | None) -> None:
    """One input again, as a command would see it."""
    folder = seeds.folder / "t0"
    made = run_item(seeds, seed, item, folder)
    click.echo(f"{item[0]}:{item[1]}: {made.what}\n{made.result}: {made.why}")
    if keep is not None:
        shutil.copytree(folder, keep, symlinks=True, ignore=_find_pipes)
        click.echo(f"kept: {keep}")


def _print(found: list[Found], faults: list[Found], seconds: float) -> None:
    columns = [result for result in Result if result in GOOD or any(one.result is result for one in found)]
    counts = Counter((one.kind, one.result) for one in found)
    click.echo(f"{'kind':<20}{'inputs':>8}" + "".join(f"{result:>14}" for result in columns) + f"{'ms each':>10}")
    for kind in dict.fromkeys(one.kind for one in found):
        mine = [one for one in found if one.kind == kind]
        cells = "".join(f"{counts[kind, result] or '-':>14}" for result in columns)
        click.echo(f"{kind:<20}{len(mine):>8}{cells}{1000 * sum(one.seconds for one in mine) / len(mine):>10.0f}")
    totals = Counter(one.result for one in found)
    click.echo(f"{'all':<20}{len(found):>8}" + "".join(f"{totals[result] or '-':>14}" for result in columns))
    for one in faults:
        click.echo(f"{one.result}: --only '{one.kind}:{one.index}': {one.what}: {one.why}")
    click.echo(f"{len(found)} inputs in {seconds:.0f} s, {len(faults)} faults")


def _print_json(seed: int, found: list[Found], faults: list[Found]) -> None:
    counts = Counter((one.kind, str(one.result)) for one in found)
    table: dict[str, dict[str, int]] = {}
    for (kind, result), count in counts.items():
        table.setdefault(kind, {})[result] = count
    shown = [{"only": f"{one.kind}:{one.index}", **vars(one), "result": str(one.result)} for one in faults]
    click.echo(json.dumps({"seed": seed, "inputs": len(found), "counts": table, "faults": shown}, indent=1))


if __name__ == "__main__":
    main()
