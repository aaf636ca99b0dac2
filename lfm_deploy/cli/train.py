"""``lfm-deploy train``: a checkpoint, by the paper's protocol or by a recipe."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfm_deploy.cli.console import FOLDER, json_option, make_console, max_pixels_option, print_json, progress_bar, say

if TYPE_CHECKING:
    from training.run import FinishedRun
    from training.train import Conduct

_DEFAULT_OUTPUT = Path("run")


@click.command("train")
@click.option("--recipe", metavar="NAME|FILE.toml", help="Recipe to train by.  [default: the paper's protocol]")
@click.option("--data", type=FOLDER, help="Folder with train/ and val/, each <category>/{0_real,1_fake}/.")
@click.option("--output", type=FOLDER, help=f"Folder of the run.  [default: {_DEFAULT_OUTPUT}]")
@click.option("--resume", type=FOLDER, metavar="RUN_DIR", help="Go on with a run that was stopped or killed.")
@click.option("--classes", metavar="CAR,CAT,...", help="Categories to learn from, or 'all'.  [default: the recipe's]")
@click.option("--epochs", type=int, help="Number of epochs.  [default: the recipe's]")
@click.option("--seed", type=int, help="Seed of the training.  [default: the recipe's]")
@click.option("--device", help="Device: cpu, cuda or cuda:N.  [default: a GPU where there is one]")
@click.option("--workers", type=click.IntRange(min=0), help="Threads that read pictures.  [default: one a core]")
@click.option(
    "--save-steps",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Steps between two saves of the state; an epoch's end saves it as well.",
)
@max_pixels_option
@click.option("--list", "list_only", is_flag=True, help="List the recipes that come with the program.")
@json_option
def command(
    recipe: str | None,
    data: Path | None,
    output: Path | None,
    resume: Path | None,
    classes: str | None,
    epochs: int | None,
    seed: int | None,
    device: str | None,
    workers: int | None,
    save_steps: int,
    list_only: bool,
    as_json: bool,
) -> None:
    """Train a checkpoint, by the paper's protocol or by a recipe.

    Writes best.pth (highest validation AP) and last.pth, which 'lfm-deploy export' takes, history.json and curves.png.
    Validation judges pictures as deployed: resized to 256x256, not cropped. Ctrl-C saves; --resume goes on as if
    nothing had happened. Several GPUs or machines: 'torchrun --nproc-per-node 2 -m lfm_deploy train ...'.
    """
    chosen = {"--recipe": recipe, "--output": output, "--classes": classes, "--epochs": epochs, "--seed": seed}
    if resume is not None and (given := [name for name, value in chosen.items() if value is not None]):
        raise click.UsageError(f"--resume goes on with the recipe of the run; leave {', '.join(given)} out")
    if list_only:
        _print_recipes(as_json)
        return
    from engines.host import keep_freed_memory
    from training.distributed import join_processes
    from training.recipe import read_recipe
    from training.run import resume_run, start_run

    keep_freed_memory()
    changes: dict[str, Any] = {"epochs": epochs, "seed": seed}
    if classes is not None:
        changes["classes"] = [] if classes == "all" else [name.strip() for name in classes.split(",") if name.strip()]
    changes = {key: value for key, value in changes.items() if value is not None}
    asked = None if resume is not None else read_recipe(recipe or "paper", changes)
    with join_processes(device) as (share, found), _watch_interrupts() as should_stop, progress_bar() as update:
        conduct = _make_conduct(share.leads, workers, save_steps, should_stop, update)
        common: dict[str, Any] = {"data": data, "device": found, "share": share, "conduct": conduct}
        if asked is None:
            assert resume is not None  # noqa: S101  # for the type checker
            finished = resume_run(resume, **common)
        else:
            finished = start_run(asked, output or _DEFAULT_OUTPUT, **common)
    if share.leads:
        _print_run(finished, as_json)


def _make_conduct(
    leads: bool,
    workers: int | None,
    save_steps: int,
    should_stop: Callable[[], bool],
    update: Callable[[str, int, int], None],
) -> "Conduct":
    from lfm_deploy.machine import count_cores
    from training.train import Conduct

    threads = count_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if workers is None else workers
    if not leads:
        return Conduct(save_steps=save_steps, workers=threads, should_stop=should_stop)
    return Conduct(
        save_steps=save_steps,
        workers=threads,
        should_stop=should_stop,
        on_progress=update,
        on_message=say,
        on_epoch=lambda entry: say(_describe_epoch(entry)),
    )


def _describe_epoch(entry: dict[str, Any]) -> str:
    training_acc, acc, ap = (f"{100 * entry[key]:.2f}" for key in ("training_acc", "acc", "ap"))
    return (
        f"epoch {entry['epoch']:3}   loss {entry['loss']:.4f}   in training ACC {training_acc}   "
        f"validation ACC {acc} AP {ap}   {entry['images_per_second']:.0f} images/s"
    )


@contextmanager
def _watch_interrupts() -> Iterator[Callable[[], bool]]:
    """Note the first Ctrl-C or SIGTERM instead of breaking off in the middle of a step; the second one breaks off."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # Python hands signals to the main thread alone
        yield lambda: False
        return
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _frame: object) -> None:
        noted.append(number)
        say("stopping after this step ...")
        for name, handler in before.items():
            signal.signal(name, handler)

    for name in before:
        signal.signal(name, note)
    try:
        yield lambda: bool(noted)
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _print_run(run: "FinishedRun", as_json: bool) -> None:
    from lfm_deploy.report.tables import make_table
    from training.data import describe_unreadable

    for line in describe_unreadable(run.unreadable):
        say(line)
    folder = run.folder
    files = {"best": folder.best, "last": folder.last, "history": folder.history, "curves": folder.curves}
    rows = {"best.pth": run.best, "last.pth": run.history[-1]}
    if as_json:
        print_json(
            {
                "recipe": run.recipe.as_dict(),
                "best": run.best,
                "last": run.history[-1],
                "epochs": len(run.history),
                "unreadable": run.unreadable,
                "files": {name: str(path) for name, path in files.items()},
            }
        )
        return
    table = make_table(f"{run.recipe.name}: {len(run.history)} epochs", "checkpoint")
    for heading in ("epoch", "loss", "ACC in training %", "validation ACC %", "validation AP %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, entry in rows.items():
        percent = [f"{100 * entry[key]:.2f}" for key in ("training_acc", "acc", "ap")]
        table.add_row(name, str(entry["epoch"]), f"{entry['loss']:.4f}", *percent)
    make_console().print(table)
    say(f"written: {', '.join(str(path) for path in files.values())}")
    say(f"next: lfm-deploy export {folder.best}")


def _print_recipes(as_json: bool) -> None:
    from lfm_deploy.report.tables import make_table
    from training.recipe import describe_recipes

    found = describe_recipes()
    if as_json:
        print_json(found)
        return
    table = make_table("recipes", "name", "what it trains")
    for name, description in found.items():
        table.add_row(name, description)
    make_console().print(table)
