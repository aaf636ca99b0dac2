"""``lfm-deploy explore``: drawings of what the network makes of pictures."""

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lfm_deploy.cli.console import (
    FILE,
    FOLDER,
    json_option,
    make_console,
    max_pixels_option,
    print_json,
    progress_bar,
    say,
    workdir_option,
)
from lfm_deploy.pictures.pixel_limit import MOST_PIXELS, most_pixels
from lfm_deploy.workdir import Workdir

if TYPE_CHECKING:
    from lfm_deploy.contract import Contract
    from lfm_deploy.exploration.examples import Example
    from lfm_deploy.exploration.specimens import Specimen
    from lfm_deploy.report.exploration_schema import ExplorationReport, JudgedCounts

_AUTO = "auto"


@click.command("explore")
@click.argument("pictures", metavar="PICTURES")
@click.option("--data", type=FOLDER, help="Where the published suites lie.  [default: $LFM_DATA or ./data]")
@click.option(
    "--checkpoint", type=FILE, metavar="X.pth", help="Checkpoint of the network.  [default: that of the workdir]"
)
@click.option("--output", type=FOLDER, default=Path("explore"), show_default=True, help="Folder for what is drawn.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="Number of pictures at most; of more, a balanced sample is drawn.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the sample and of t-SNE."
)
@click.option("--perplexity", default=_AUTO, show_default=True, metavar="auto|NUMBER", help="Perplexity of t-SNE.")
@click.option(
    "--maps", type=click.IntRange(0, 200), default=12, show_default=True, help="Number of pictures to look at closely."
)
@max_pixels_option
@workdir_option
@json_option
def command(
    pictures: str,
    data: Path | None,
    checkpoint: Path | None,
    output: Path,
    limit: int,
    seed: int,
    perplexity: str,
    maps: int,
    workdir: Workdir,
    as_json: bool,
) -> None:
    """Draw what the network makes of pictures: a map of its vectors, and what it sees in some of them.

    PICTURES is a folder, with or without 0_real/ and 1_fake/ in it or in its test sets, or a suite or group as verify
    takes them. Writes tsne.png and evidence.png for slides, explore.html to look at, and explore.json with all values.
    """
    chosen = _read_perplexity(perplexity)
    path = _choose_checkpoint(checkpoint, workdir)

    from engines.host import keep_freed_memory
    from lfm_deploy.exploration.exploration import explore
    from lfm_deploy.exploration.specimens import draw_sample, find_specimens
    from lfm_deploy.network.checkpoint import read_checkpoint
    from lfm_deploy.report.exploration_document import make_exploration_report

    keep_freed_memory()
    check_output(output)
    read = read_checkpoint(path)
    contract = _read_contract(workdir, checkpoint)
    specimens = find_specimens(pictures, data, size=contract.size)
    _refuse_among(output, pictures, specimens)
    sample = draw_sample(specimens, limit, seed)
    say(f"taking {path}, and {len(sample)} of {len(specimens)} pictures in {pictures}")
    with progress_bar() as update:
        found = explore(
            read, sample, threshold=contract.threshold, perplexity=chosen, seed=seed, maps=maps, on_progress=update
        )
    report = make_exploration_report(
        found,
        read,
        file=path,
        pictures=pictures,
        available=len(specimens),
        seed=seed,
        command=_spell(click.get_current_context().params),
    )
    written = write_exploration(output, report, found.examples)
    if as_json:
        print_json({name: value for name, value in report.items() if name != "points"})
    else:
        _print_summary(report)
        say(f"written: {', '.join(map(str, written))}")


def check_output(folder: Path) -> None:
    """Make sure, before minutes of work, that the folder can be written; nothing is made yet.

    Raises:
        InputError: the folder is a file, or may not be written.
    """
    from lfm_deploy.errors import InputError

    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise InputError(f"{folder}: cannot be used as a folder for what is drawn: {nearest} is a file; give --output")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: cannot be used as a folder for what is drawn: no right to write into {nearest}")


def _refuse_among(folder: Path, pictures: str, specimens: "list[Specimen]") -> None:
    """Refuse to draw among the pictures: the next exploration would take the drawings for some of them.

    Raises:
        InputError: the folder for what is drawn lies in one of pictures.
    """
    from lfm_deploy.errors import InputError
    from lfm_deploy.storage.overlap import lies_in

    roots = {specimen.path.parent for specimen in specimens}
    if any(specimen.label is None for specimen in specimens):
        roots.add(Path(pictures))
    if (root := next((root for root in sorted(roots) if lies_in(folder, root)), None)) is not None:
        raise InputError(f"--output: {folder} lies in {root}, whose pictures are looked at; choose a folder beside it")


def write_exploration(folder: Path, report: "ExplorationReport", examples: "list[Example]") -> list[Path]:
    """Draw everything, then write all files together.

    Raises:
        WriteError: a file cannot be written; the files of an earlier run stay as they were.
    """
    from lfm_deploy.errors import WriteError
    from lfm_deploy.report.exploration_page import make_exploration_page
    from lfm_deploy.report.feature_plots import plot_embedding, plot_examples
    from lfm_deploy.storage.atomic import finish_commits, write_together

    contents = {
        folder / "tsne.png": plot_embedding(report),
        folder / "explore.html": make_exploration_page(report, examples).encode(),
        folder / "explore.json": (json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(),
    }
    evidence = folder / "evidence.png"
    if examples:
        contents[evidence] = plot_examples(report, examples)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        finish_commits(folder)
        write_together(contents)
        if not examples:
            evidence.unlink(missing_ok=True)  # an earlier run's, which would belong to other pictures
    except OSError as error:
        raise WriteError(folder, error, "nothing in it was changed; give another --output") from None
    return list(contents)


def _read_perplexity(text: str) -> float | None:
    if text == _AUTO:
        return None
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither 'auto' nor a number", param_hint="--perplexity") from None


def _choose_checkpoint(checkpoint: Path | None, workdir: Workdir) -> Path:
    if checkpoint is None:
        return workdir.require_checkpoint()
    if click.get_current_context().get_parameter_source("workdir") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--workdir and --checkpoint exclude each other")
    return checkpoint


def _read_contract(workdir: Workdir, checkpoint: Path | None) -> "Contract":
    """The contract that the workdir's graph was exported with; the default one for a checkpoint alone."""
    from lfm_deploy.artifacts import Precision, read_graph_info
    from lfm_deploy.contract import Contract
    from lfm_deploy.workdir import check_origin

    path = workdir.graph(Precision.FP32)
    if checkpoint is not None or not path.is_file():
        return Contract()
    graph = read_graph_info(path)
    check_origin(path, graph.checkpoint_sha256, workdir, f"lfm-deploy export CHECKPOINT.pth --workdir {workdir.path}")
    return graph.contract


def _spell(options: dict[str, Any]) -> str:
    """The command that makes the same again; its output folder is left out."""
    from lfm_deploy.report.exploration_document import shown

    workdir = options["workdir"].path if options["checkpoint"] is None else None
    words = ["lfm-deploy", "explore", options["pictures"]]
    if most_pixels() != MOST_PIXELS:
        words += ["--max-pixels", str(most_pixels())]
    for name in ("data", "workdir", "checkpoint", "limit", "seed", "perplexity", "maps"):
        value = workdir if name == "workdir" else options[name]
        words += [] if value is None else [f"--{name}", str(value)]
    return shown(shlex.join(words))


def _print_summary(report: "ExplorationReport") -> None:
    from lfm_deploy.report.feature_texts import describe_result
    from lfm_deploy.report.tables import make_table

    headline, result = describe_result(report)
    table = make_table(headline, "test set")
    counts, unlabelled = report["counts"], report["counts"]["unlabelled"]
    for heading in ("real", "fake", *(["no label"] if unlabelled else []), "right", "wrong", "silhouette"):
        table.add_column(heading, justify="right")
    rows: list[tuple[str, JudgedCounts, float | None]] = [
        (part["set"], part, part["silhouette"]) for part in report["sets"]
    ]
    if len(rows) > 1:
        rows.append(("all", counts, report["silhouette"]))
    for name, found, silhouette in rows:
        figures = [
            found["real"],
            found["fake"],
            *([found["unlabelled"]] if unlabelled else []),
            found["right"],
            found["wrong"],
        ]
        score = "-" if silhouette is None else f"{silhouette:.2f}"
        table.add_row(name, *map(str, figures), score)
    table.caption = result
    make_console().print(table)
    if report["no_examples"]:
        say(f"no evidence maps: {report['no_examples']}")
    for picture in report["skipped"]:
        say(f"skipped {picture['path']}: {picture['reason']}")
