"""The paper's ablations on the demonstration's data: held-out ACC and AP of recipes, over several seeds.

    python benchmarks/ablations.py ablations --recipes table4_gap,table4_tkp,table4_tkp_rbld_rks --seeds 3

Each recipe lends its model and its regularisers; data, learning rate and epochs are the demonstration's, so that two
cores train it in minutes, and widths are a quarter of the recipe's. Every network is judged on the demonstration's test
photographs, of which nothing was seen in training, by its last checkpoint. Seeds change weights, order and the random
kernels of the fakes. What is trained already in the folder is not trained again, and a run that was killed is gone on
with: start the same command again.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from engines.host import keep_freed_memory
from lfm_deploy.atomic import write_atomically
from lfm_deploy.checkpoint import read_checkpoint
from lfm_deploy.cli.console import make_console, progress_bar
from lfm_deploy.errors import DeployError
from lfm_deploy.images import read_batches
from lfm_deploy.metrics import accuracy, average_precision
from lfm_deploy.model import normalise
from lfm_deploy.report.environment import describe_environment
from lfm_deploy.suites import load_suites
from lfm_deploy.tables import make_table
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
def main(folder: Path, recipes: str, seeds: int, epochs: int, narrower: int, tiles: int) -> None:
    """Train what is missing, and print the table."""
    keep_freed_memory()
    test = folder / "test"
    write_test_tiles(test, tiles=tiles, seed=_TEST_SEED)  # the same pixels each time
    found: dict[str, list[dict[str, float]]] = {}
    with progress_bar() as update:
        for seed in range(seeds):
            for name in recipes.split(","):
                recipe = adapt(name, seed=seed, epochs=epochs, narrower=narrower)
                run = folder / f"{name}-seed{seed}"
                conduct = Conduct(on_progress=lambda what, *done, run=run: update(f"{run.name}: {what}", *done))
                found.setdefault(name, []).append(judge(run, recipe, test, conduct))
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


def judge(run: Path, recipe: TrainingRecipe, test: Path, conduct: Conduct) -> dict[str, float]:
    """Train a run, or go on with it, or take what it gave; its figures on the test sets, means over them."""
    result = run / "result.json"
    if result.is_file():
        made = json.loads(result.read_text())
    else:
        is_begun = (run / "state.pth").is_file()
        trained = resume_run(run, conduct=conduct) if is_begun else start_run(recipe, run, conduct=conduct)
        made = {"recipe": trained.recipe.as_dict(), "figures": score(trained.folder.last, test)}
        with write_atomically(result) as temporary:
            temporary.write_text(json.dumps(made, indent=2) + "\n")
    if made["recipe"] != recipe.as_dict():
        raise click.ClickException(f"{run}: holds a run with other settings; choose another folder")
    figures: dict[str, float] = made["figures"]
    return figures


def score(checkpoint: Path, test: Path) -> dict[str, float]:
    """ACC and AP of a checkpoint: means over the test sets, in per cent."""
    model = read_checkpoint(checkpoint).build_model()
    (suite,) = load_suites(test)
    figures: dict[str, list[float]] = {"acc": [], "ap": []}
    for part in suite.sets:
        labels = np.array([image.label for image in part.images])
        logits = np.zeros(len(labels), np.float32)
        with torch.inference_mode():
            for batch in read_batches([image.path for image in part.images], 256, batch=16):
                logits[batch.indices] = model(normalise(torch.from_numpy(batch.images))).numpy()
        figures["acc"].append(100 * accuracy(logits, labels))
        figures["ap"].append(100 * average_precision(logits, labels))
    return {name: statistics.fmean(values) for name, values in figures.items()}


def _print(found: dict[str, list[dict[str, float]]], title: str) -> None:
    table = make_table(f"held-out photographs, means over five ways of up-sampling: {title}", "recipe")
    for heading in ("ACC %: mean", "lowest", "highest", "AP %: mean", "lowest", "highest"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, figures in found.items():
        cells: list[Any] = []
        for key in ("acc", "ap"):
            values = [entry[key] for entry in figures]
            cells += [f"{value:.2f}" for value in (statistics.fmean(values), min(values), max(values))]
        table.add_row(name, *cells)
    make_console().print(table)


if __name__ == "__main__":
    try:
        main()
    except DeployError as error:
        sys.exit(f"Error: {error}")
