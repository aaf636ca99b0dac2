"""``lfm-deploy inspect``: what a file or a workdir is, what made it, and whether it can run here."""

from pathlib import Path

import click

from lfm_deploy.cli.console import FILE, json_option, make_console, print_json, workdir_option
from lfm_deploy.workdir import Workdir


@click.command("inspect")
@click.argument("artifacts", metavar="[ARTIFACT]...", type=FILE, nargs=-1)
@workdir_option
@json_option
def command(artifacts: tuple[Path, ...], workdir: Workdir, as_json: bool) -> None:
    """Say what a file is, what made it, and whether it can run here.

    Takes checkpoints, ONNX files and engines; without one, everything in the workdir.
    """
    from lfm_deploy.deployment.inspection import inspect_artifact

    if not artifacts:
        artifacts = (workdir.require_checkpoint(), *workdir.graphs(), *workdir.engines())
    found = [inspect_artifact(path) for path in artifacts]
    if as_json:
        print_json(found)
        return
    from lfm_deploy.report.tables import make_table

    console = make_console()
    for values in found:
        table = make_table(values["file"])
        table.show_header = False
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in values.items():
            if name != "file":
                table.add_row(name, str(value))
        console.print(table)
