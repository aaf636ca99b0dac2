"""``lfm-deploy calibrate``: activation ranges from pictures, for INT8."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lfm_deploy.cli.console import (
    FOLDER,
    json_option,
    make_console,
    max_pixels_option,
    print_json,
    progress_bar,
    say,
    workdir_option,
)
from lfm_deploy.workdir import Workdir

if TYPE_CHECKING:
    from calib.ranges import Ranges

_LISTED = 5


@click.command("calibrate")
@click.argument("images", metavar="IMAGES", type=FOLDER)
@click.option(
    "--count", type=int, default=128, show_default=True, help="Number of pictures to take at most; at least 32."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random sample.")
@max_pixels_option
@workdir_option
@json_option
def command(images: Path, count: int, seed: int, workdir: Workdir, as_json: bool) -> None:
    """Measure activation ranges on pictures, for build --int8.

    IMAGES is a folder with 0_real/ and 1_fake/ (or categories that hold them), or a folder of pictures without
    classes. Of each class equally many are taken. All of them choose the ranges; beside that stands what would be
    chosen without the pictures of one source (a folder, or the words of file names), for every source in turn, so that
    build --int8 judges by sources that chose nothing. Writes ranges.json: for each tensor the ranges that were tried,
    what each does to the logits, and the choice.
    """
    from calib.calibration import calibrate_into

    with progress_bar() as update:
        made = calibrate_into(workdir, images, count=count, seed=seed, on_message=say, on_progress=update)
    for picture in made.skipped[:_LISTED]:
        say(f"skipped: {picture.path}: {picture.reason}")
    if len(made.skipped) > _LISTED:
        say(f"... and {len(made.skipped) - _LISTED} more were skipped")
    if as_json:
        print_json(as_values(workdir, made.ranges))
    else:
        print_ranges(made.ranges, workdir.ranges)


def as_values(workdir: Workdir, ranges: "Ranges") -> dict[str, object]:
    """A calibration in short, as plain values; the file has the rest."""
    return {
        "file": str(workdir.ranges),
        "pictures": len(ranges.pictures),
        "classes": ranges.classes,
        "sources": ranges.sources,
        "tensors": {
            name: {
                str(recipe): {"choice": choice, "range": tensor.chosen(recipe), "error": tensor.errors[recipe][choice]}
                for recipe, choice in tensor.choice.items()
            }
            for name, tensor in ranges.tensors.items()
        },
    }


def print_ranges(ranges: "Ranges", path: Path) -> None:
    """What was chosen for each tensor."""
    from lfm_deploy.quantisation import Recipe
    from lfm_deploy.report.tables import make_table

    classes = ", ".join(f"{count} {name}" for name, count in ranges.classes.items())
    table = make_table(f"{path}: {len(ranges.pictures)} pictures ({classes})", "tensor")
    for heading in ("values up to", "TensorRT keeps", "|Δlogit|", "CPU keeps", "|Δlogit|"):
        table.add_column(heading, justify="right")
    for name, tensor in ranges.tensors.items():
        cells = []
        for recipe in Recipe:
            if recipe in tensor.choice:
                cells += [f"{tensor.chosen(recipe)[1]:.4g}", f"{tensor.errors[recipe][tensor.choice[recipe]]:.2g}"]
            else:
                cells += ["float16", "-"]
        table.add_row(name, f"{tensor.highest:.4g}", *cells)
    table.caption = "|Δlogit|: with this tensor alone quantised, on the source of pictures where its mean is largest"
    console = make_console()
    console.print(table)
    sources = ", ".join(f"{name} ({count})" for name, count in ranges.sources.items())
    console.print(f"sources: {sources}; build --int8 judges each by ranges that were chosen without it", markup=False)
