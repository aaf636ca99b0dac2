"""Measures what the pages say of the published checkpoint over real pictures, and keeps the answers for the tests.

    python benchmarks/published_figures.py ../shared

It deploys the checkpoint as a user does, judges every picture of ``wild`` with every engine, and writes
``tests/published/``: logits, ranges, findings of the searches, and what they were made with. The tests score a sample
anew and hold it against these answers; where the code that INT8 comes from has changed since, they ask for this run.
"""

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import click
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import published_record as record
from documentation import ROOT

from calib.calibration import calibrate_into, calibration_versions
from calib.int8_graph import quantise_into
from calib.layer_times import RtxTarget
from calib.pictures import PictureStore
from calib.scoring import score_graph
from engines.library import load_library
from export.graph import ExportConfig, library_versions, make_graph
from export.precision import make_int8_graph
from lfm_deploy.artifacts import Precision
from lfm_deploy.cli.console import progress_bar, say
from lfm_deploy.deployment.deployment import export_into, make_typed_graph
from lfm_deploy.deployment.lineup import find_candidates
from lfm_deploy.errors import DeployError
from lfm_deploy.network.origin import read_origin
from lfm_deploy.pictures.images import read_image
from lfm_deploy.quantisation import Budget, Recipe
from lfm_deploy.scoring.scorers import published_reading
from lfm_deploy.scoring.suite_scores import make_scorer, make_tasks
from lfm_deploy.storage.atomic import write_together
from lfm_deploy.suites import load_suites
from lfm_deploy.verification.aligned import measure_aligned
from lfm_deploy.verification.envelope import choose_envelope_engine, measure_envelope
from lfm_deploy.workdir import Workdir

Column = dict[str, float]
"""Logits by the picture's path below the folder of pictures."""


@click.command()
@click.argument("shared", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(shared: Path) -> None:
    """Measure and write."""
    shared = Path(os.path.relpath(shared.resolve(), ROOT))
    os.chdir(ROOT)  # what is kept names folders as seen from here
    with tempfile.TemporaryDirectory(prefix="lfm-published-") as scratch:
        workdir = Workdir(Path(scratch) / "deploy")
        _deploy(workdir, shared)
        kept = {
            record.RANGES: workdir.ranges.read_bytes(),
            record.PRECISIONS: workdir.precisions.read_bytes(),  # before layers are chosen by their time
        }
        columns = _verify(workdir, shared / "wild")
        paths = sorted(columns[record.FP32])
        columns |= _treat(workdir, shared / "wild", record.hash_pictures(shared / "wild", paths))
        columns[record.MIN_MAX] = _score(_quantise_all(workdir), shared / "wild", paths)
        with progress_bar() as update:
            target = RtxTarget(load_library("tensorrt-rtx"), ("sm86",))
            made = quantise_into(workdir, Recipe.TENSORRT, Budget(), target=target, on_progress=update)
        columns[record.BY_TIME] = _score(onnx.load(made.path), shared / "wild", paths)
    about = {
        "by_time": {"layers": record.read_layers(made.findings), "int8_share": made.findings["int8_share"]},
        "versions": library_versions() | calibration_versions() | {"tensorrt-rtx": target.library.version},
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "sources_sha256": record.hash_sources(),
    }
    kept |= {record.ANSWERS: _make_table(columns, paths), record.MADE_WITH: f"{json.dumps(about, indent=1)}\n".encode()}
    write_together(kept)
    say(f"{record.FOLDER}: {len(paths)} pictures, {len(columns)} columns")


def _deploy(workdir: Workdir, shared: Path) -> None:
    """FP32, FP16, and INT8 of both recipes, as ``export``, ``build`` and ``calibrate`` make them."""
    with progress_bar() as update:
        export_into(workdir, shared / "official" / "bs_model.pth", ExportConfig(), say)
        make_typed_graph(workdir, Precision.FP16, say)
        calibrate_into(workdir, shared / "calibration" / "mixed", on_message=say, on_progress=update)
        for recipe in Recipe:
            quantise_into(workdir, recipe, Budget(), on_message=say, on_progress=update)


def _verify(workdir: Workdir, wild: Path) -> dict[str, Column]:
    """What every engine answers, by its name."""
    command = [sys.executable, "-m", "lfm_deploy", "verify", "--workdir", str(workdir.path), "--suite", str(wild)]
    if code := subprocess.run([*command, "--no-speed", "--allow-undecided"], check=False).returncode:
        sys.exit(f"Error: lfm-deploy verify ended with exit code {code}; nothing is kept")
    columns: dict[str, Column] = {}
    with workdir.scores.open(newline="") as file:
        for row in csv.DictReader(file):
            columns.setdefault(row["engine"], {})[record.name_picture(row["path"])] = float(row["logit"])
    return columns


def _treat(workdir: Workdir, wild: Path, digests: dict[str, str]) -> dict[str, Column]:
    """What FP32 in ONNX Runtime answers after each condition, and where fakes are stored as real pictures are."""
    suites = load_suites(str(wild), None)
    engine = choose_envelope_engine(workdir, find_candidates(workdir, "cpu"), suites, None)
    planned = [make_tasks(suite, published_reading(suite.size, batch=32)) for suite in suites]
    found: dict[str, Column] = {}
    with closing(make_scorer(engine, required=True)) as scorer:
        plain = scorer.key(planned[0].tasks[0].reading)
        for name, condition in record.CONDITIONS.items():
            say(name)
            cache = record.KeptAnswers()
            measure_envelope(scorer, planned, cache=cache, conditions=(condition,))
            found[name] = _name(next(iter(cache.added.values())), digests)
        say(record.ALIGNED)
        cache = record.KeptAnswers()
        measure_aligned(scorer, planned, cache=cache)
    # Each set has a reading of its own, by which only its fakes are judged; no fake is in two of them.
    stored = {digest: logit for key, some in cache.added.items() if key != plain for digest, logit in some.items()}
    return found | {record.ALIGNED: _name(stored, digests)}


def _name(found: Mapping[str, float | str], digests: dict[str, str]) -> Column:
    """Logits by the picture's name; pictures that were not judged have none."""
    named = {name: found[digest] for name, digest in digests.items() if digest in found}
    return {name: logit for name, logit in named.items() if not isinstance(logit, str)}


def _quantise_all(workdir: Workdir) -> onnx.ModelProto:
    """Every layer in INT8 for TensorRT by the defaults of tools: min/max ranges, weights rounded to the nearest."""
    source, info = read_origin(workdir)
    half = make_graph(source, ExportConfig(size=info.contract.size, precision=Precision.FP16))
    return make_int8_graph(record.prepare_plainly(half, workdir), info.config.layers)


def _score(model: onnx.ModelProto, wild: Path, names: Sequence[str]) -> Column:
    with PictureStore() as store:
        for name in names:
            store.add(read_image(wild / name))
        return dict(zip(names, score_graph(model, store, range(len(store))).tolist(), strict=True))


def _make_table(columns: dict[str, Column], names: Sequence[str]) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["path", *columns])
    for name in names:
        # Nine digits are every bit of a float32.
        rows.writerow([name, *(f"{column[name]:.9g}" if name in column else "" for column in columns.values())])
    return text.getvalue().encode()


if __name__ == "__main__":
    try:
        main()
    except DeployError as error:
        sys.exit(f"Error: {error}")
