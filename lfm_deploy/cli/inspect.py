"""``lfm-deploy inspect``: what a file or a workdir is, what made it, and whether it can run here."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfm_deploy.cli.console import FILE, json_option, make_console, print_json, warn_of_decoding, workdir_option
from lfm_deploy.errors import ArtifactError, InputError, nearest
from lfm_deploy.workdir import Workdir

if TYPE_CHECKING:
    from lfm_deploy.cli.overview import Holding, Step


@click.command("inspect")
@click.argument("paths", metavar="[WORKDIR | FILE...]", type=FILE, nargs=-1)
@workdir_option
@json_option
def command(paths: tuple[Path, ...], workdir: Workdir, as_json: bool) -> None:
    """Say what a file or a workdir is, what made it, and whether it can run here.

    FILE is a checkpoint (.pth), a graph (.onnx) or an engine (.engine): everything that is known of it is shown. In a
    WORKDIR, by default that of --workdir, each artifact gets a line: what it is, which checkpoint it was made from,
    whether it runs here, whether it is stale. Then come the commands that make what is missing.

    The exit code is 2 where a file is damaged or stale, since other commands refuse it.
    """
    warn_of_decoding()
    folders = [path for path in paths if path.is_dir()]
    if folders and len(paths) > 1:
        raise click.UsageError(f"{folders[0]} is a folder: name one folder, or files")
    if folders:
        inspect_workdir(Workdir(folders[0]), as_json)
    elif paths:
        inspect_files(paths, as_json)
    else:
        inspect_workdir(workdir, as_json)


def inspect_files(paths: tuple[Path, ...], as_json: bool) -> None:
    """Print everything that is known of some files."""
    from lfm_deploy.deployment.inspection import inspect_artifact

    for path in paths:
        if not path.exists():
            siblings = [str(file) for file in path.parent.iterdir()] if path.parent.is_dir() else []
            close = nearest(str(path), siblings)
            raise InputError(f"{path}: no such file or folder{f' (did you mean {close}?)' if close else ''}")
    found = [inspect_artifact(path) for path in paths]
    if as_json:
        print_json(found)
        return
    from lfm_deploy.cli.engine_tables import print_kernels
    from lfm_deploy.report.tables import make_table

    console = make_console()
    for values in found:
        table = make_table(values["file"])
        table.show_header = False
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in values.items():
            if name not in ("file", "kernels"):
                table.add_row(name, str(value))
        console.print(table)
        if values.get("kernels") is not None:
            print_kernels(Path(values["file"]).name, values["kernels"])


def inspect_workdir(workdir: Workdir, as_json: bool) -> None:
    """Print what a workdir holds, a line for each artifact, and what to do next.

    Raises:
        InputError: the folder is not a workdir.
        ArtifactError: an artifact is damaged or stale; the table is printed before.
    """
    from lfm_deploy.cli.overview import CURRENT, STALE, list_holdings, suggest_steps

    holdings = list_holdings(workdir)
    steps = suggest_steps(workdir, holdings)
    if as_json:
        print_json(_as_dict(workdir, holdings, steps))
    else:
        _print_workdir(workdir, holdings, steps)
    # A stale report stops no other command: it is to be made anew, as if it were missing.
    fine = {"report": (CURRENT, STALE)}
    broken = [f"{it.path.name} is {it.state}" for it in holdings if it.state not in fine.get(it.kind, (CURRENT,))]
    if broken:
        raise ArtifactError(f"{workdir.path}: {', '.join(broken)}; run the commands that are named above")


def _as_dict(workdir: Workdir, holdings: list["Holding"], steps: list["Step"]) -> dict[str, Any]:
    return {
        "workdir": str(workdir.path),
        "artifacts": [holding.as_dict() for holding in holdings],
        "next": [{"command": step.command, "why": step.why} for step in steps],
    }


def _print_workdir(workdir: Workdir, holdings: list["Holding"], steps: list["Step"]) -> None:
    from lfm_deploy.report.tables import make_table

    console = make_console()
    if holdings:
        table = make_table(str(workdir.path), "file", "kind", "type", "size", "checkpoint", "runs", "state")
        for holding in holdings:
            origin = (holding.path.name, holding.kind, holding.precision, holding.size, holding.checkpoint[:8])
            runs = re.split(r"\W", holding.runs)[0]
            table.add_row(*(text or "-" for text in (*origin, runs, holding.state)))
        console.print(table)
    else:
        console.print(f"{workdir.path}: a workdir that holds nothing yet", soft_wrap=True)
    notes: dict[str, list[str]] = {}
    for holding in holdings:
        for note in holding.notes:
            notes.setdefault(note, []).append(holding.path.name)
    for note, names in notes.items():
        console.print(f"{', '.join(names)}: {note}")
    thresholds = dict.fromkeys(holding.details["threshold"] for holding in holdings if "threshold" in holding.details)
    for text in thresholds:
        console.print(f"threshold: {text}", soft_wrap=True)
    for step in steps:
        console.print(f"next: {step.command}  # {step.why}", soft_wrap=True)
