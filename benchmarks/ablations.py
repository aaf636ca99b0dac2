"""The paper's ablations on the demonstration's data: held-out ACC and AP of recipes, over several seeds.

    python benchmarks/ablations.py ablations --recipes table4_gap,table4_tkp,table4_tkp_rbld_rks --seeds 3

Each recipe lends its model and its regularisers; data, learning rate and epochs are the demonstration's, so that two
cores train it in minutes, and widths are a quarter of the recipe's. Every network is judged by its last checkpoint, on
photographs of which nothing was seen in training:

- "whole": the demonstration's test tiles, real and up-sampled in five ways;
- "patch": the same, but only a square in the middle of a fake is up-sampled, the rest of it is the real tile;
- with ``--suite``, sets of your own.

Seeds change weights, order and the random kernels of the fakes. What is trained already in the folder is not trained
again, and a run that was killed is gone on with: start the same command again.
"""

import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image

from engines.host import keep_freed_memory
from lfm_deploy.cli.console import make_console, progress_bar
from lfm_deploy.environment import describe_environment
from lfm_deploy.errors import DeployError
from lfm_deploy.metrics.decisions import accuracy, average_precision
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.network.model import normalise
from lfm_deploy.pictures.images import read_batches
from lfm_deploy.report.tables import make_table
from lfm_deploy.storage.atomic import write_atomically
from lfm_deploy.suites import load_suites
from training.demonstration_data import write_test_tiles
from training.recipe import TrainingRecipe, read_recipe
from training.run import resume_run, start_run
from training.train import Conduct

# What a recipe keeps of its own; the rest is the demonstration's.
_OWN = ("rbld", "rbld_p", "rbld_rescale", "rks_weight")
_TEST_SEED = 0  # all networks are judged on the same pixels


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--recipes", default="table4_gap,table4_tkp,table4_tkp_rbld,table4_tkp_rbld_rks", show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--epochs", default=12, show_default=True)
@click.option("--narrower", default=4, show_default=True, help="Widths and projection are divided by this.")
@click.option("--tiles", default=6, show_default=True, help="Of each test photograph, real, and for each fake way.")
@click.option(
    "--patch",
    type=click.IntRange(1, 256),
    default=48,
    show_default=True,
    help="Side of the square that is fake, in pixels.",
)
@click.option("--suite", type=click.Path(path_type=Path), help="Judge on these sets too.")
def main(
    folder: Path, recipes: str, seeds: int, epochs: int, narrower: int, tiles: int, patch: int, suite: Path | None
) -> None:
    """Train what is missing, and print the table."""
    keep_freed_memory()
    tests = {"whole": folder / f"whole{tiles}", "patch": folder / f"patch{patch}-{tiles}"} | (
        {suite.name: suite} if suite else {}
    )
    write_test_tiles(tests["whole"], tiles=tiles, seed=_TEST_SEED)  # the same pixels each time
    write_patches(tests["whole"], tests["patch"], patch)
    found: dict[str, list[dict[str, dict[str, float]]]] = {}
    with progress_bar() as update:
        for seed in range(seeds):
            for name in recipes.split(","):
                recipe = adapt(name, seed=seed, epochs=epochs, narrower=narrower)
                run = folder / f"{name}-seed{seed}"
                conduct = Conduct(on_progress=lambda what, *done, run=run: update(f"{run.name}: {what}", *done))
                found.setdefault(name, []).append(judge(run, recipe, tests, conduct))
    _print(found, f"{epochs} epochs, widths / {narrower}, {seeds} seeds, {describe_environment()['processor']}")


def adapt(name: str, *, seed: int, epochs: int, narrower: int) -> TrainingRecipe:
    """A recipe's model and regularisers on the demonstration's data."""
    recipe = read_recipe(name)
    config = recipe.model_config().as_dict()
    model = recipe.model | {
        "widths": [max(1, width // narrower) for width in config["widths"]],
        "projection": config["projection"] // narrower,
    }
    own = {key: value for key, value in recipe.as_dict().items() if key in _OWN}
    values = read_recipe("demo").as_dict() | own | {"model": model, "seed": seed, "epochs": epochs}
    return TrainingRecipe.from_values(name, values)


def write_patches(whole: Path, folder: Path, side: int) -> None:
    """A copy of the test sets whose fakes are real but for a square in the middle."""
    for real in sorted(whole.glob("*/0_real/*")):
        fake = real.parents[1] / "1_fake" / real.name
        mixed = folder / real.parents[1].name
        for label in ("0_real", "1_fake"):
            (mixed / label).mkdir(parents=True, exist_ok=True)
        with Image.open(real) as pixels, Image.open(fake) as altered:
            pixels.save(mixed / "0_real" / real.name, compress_level=1)
            left, top = ((length - side) // 2 for length in pixels.size)
            square = altered.crop((left, top, left + side, top + side))
            pixels.paste(square, (left, top))
            pixels.save(mixed / "1_fake" / real.name, compress_level=1)


def judge(run: Path, recipe: TrainingRecipe, tests: dict[str, Path], conduct: Conduct) -> dict[str, dict[str, float]]:
    """Train a run, or go on with it, or take what it gave; its figures on each test."""
    result = run / "result.json"
    if result.is_file():
        made: dict[str, Any] = json.loads(result.read_text())
    else:
        is_begun = (run / "state.pth").is_file()
        trained = resume_run(run, conduct=conduct) if is_begun else start_run(recipe, run, conduct=conduct)
        made = {"recipe": trained.recipe.as_dict(), "checkpoint": trained.folder.last.name, "figures": {}}
    if made["recipe"] != recipe.as_dict():
        raise click.ClickException(f"{run}: holds a run with other settings; choose another folder")
    keys = {name: str(test.resolve()) for name, test in tests.items()}
    for name, test in tests.items():
        if keys[name] not in made["figures"]:
            update = partial(conduct.on_progress, f"judged on {name}")
            made["figures"][keys[name]] = score(run / made["checkpoint"], test, update)
    with write_atomically(result) as temporary:
        temporary.write_text(json.dumps(made, indent=2) + "\n")
    return {name: made["figures"][key] for name, key in keys.items()}


def score(checkpoint: Path, test: Path, on_progress: Callable[[int, int], None]) -> dict[str, float]:
    """ACC and AP of a checkpoint over all pictures of a folder's sets together, in per cent.

    ``on_progress`` is given the number of pictures that are judged, and that of all.
    """
    model = read_checkpoint(checkpoint).build_model()
    images = [image for suite in load_suites(test) for part in suite.sets for image in part.images]
    labels = np.array([image.label for image in images])
    logits, judged = np.zeros(len(labels), np.float32), 0
    with torch.inference_mode():
        for batch in read_batches([image.path for image in images], 256, batch=16):
            logits[batch.indices] = model(normalise(torch.from_numpy(batch.images))).numpy()
            judged += len(batch.indices)
            on_progress(judged, len(labels))
    return {"acc": 100 * accuracy(logits, labels), "ap": 100 * average_precision(logits, labels)}


def _print(found: dict[str, list[dict[str, dict[str, float]]]], title: str) -> None:
    table = make_table(f"pictures never seen in training: {title}", "recipe")
    for heading in ("judged on", "ACC %: mean", "lowest", "highest", "AP %: mean", "lowest", "highest"):
        table.add_column(heading, justify="left" if heading == "judged on" else "right", no_wrap=True)
    for name, seeds in found.items():
        for test in seeds[0]:
            cells: list[Any] = []
            for key in ("acc", "ap"):
                values = [figures[test][key] for figures in seeds]
                cells += [f"{value:.2f}" for value in (statistics.fmean(values), min(values), max(values))]
            table.add_row(name, test, *cells)
    make_console().print(table)


if __name__ == "__main__":
    try:
        main()
    except DeployError as error:
        sys.exit(f"Error: {error}")
