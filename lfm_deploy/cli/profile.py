"""``lfm-deploy profile``: parameters and multiply-adds, layer by layer."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lfm_deploy.cli.console import FILE, Choice, json_option, make_console, print_json, workdir_option
from lfm_deploy.workdir import Workdir

if TYPE_CHECKING:
    from lfm_deploy.deployment.profiling import Agreement, Profile


@click.command("profile")
@click.argument("artifact", metavar="[CHECKPOINT.pth|GRAPH.onnx]", type=FILE, required=False)
@click.option("--config", "name", type=Choice(["lfm", "npr"]), help="Count a published architecture, without a file.")
@click.option("--size", type=int, default=256, show_default=True, help="Side of the square picture in pixels.")
@workdir_option
@json_option
def command(artifact: Path | None, name: str | None, size: int, workdir: Workdir, as_json: bool) -> None:
    """Count parameters and multiply-adds, layer by layer, and compare them with the paper.

    Takes the checkpoint of the workdir where neither a file nor --config is given. Checkpoints are counted as they are
    trained, graphs as they run, with batch norms folded into the convolutions.
    """
    if artifact is not None and name is not None:
        raise click.UsageError("--config names a published architecture; give it or a file, not both")
    from lfm_deploy.config import NAMED
    from lfm_deploy.deployment.profiling import profile_artifact, profile_config

    if name is not None:
        profile = profile_config(NAMED[name], size, name)
    else:
        profile = profile_artifact(artifact or workdir.require_checkpoint(), size)
    if as_json:
        print_json(profile.as_dict())
    else:
        print_profile(profile)


def print_profile(profile: "Profile") -> None:
    """A table of the layers, and one of the paper's figures where it has some."""
    from lfm_deploy.deployment.profiling import compare_with_paper
    from lfm_deploy.report.tables import make_table

    console = make_console()
    side = profile.side
    console.print(
        f"{profile.source}: {profile.config.title}, one picture of {side}x{side}", style="bold", soft_wrap=True
    )
    table = make_table("", "layer")
    for heading in ("output", "parameters", "multiply-adds", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in profile.layers:
        share = f"{100 * layer.multiply_adds / profile.multiply_adds:.1f} %"
        output = "x".join(map(str, layer.output))
        table.add_row(layer.name, output, f"{layer.parameters:,}", f"{layer.multiply_adds:,}", share)
    table.add_section()
    table.add_row("all", "", f"{profile.parameters:,}", f"{profile.multiply_adds:,}", "", style="bold")
    console.print(table)
    rows = compare_with_paper(profile)
    if rows:
        _print_agreements(rows)


def _print_agreements(rows: list["Agreement"]) -> None:
    from rich.text import Text

    from lfm_deploy.report.tables import make_table

    table = make_table("beside the paper, at 256x256", "figure")
    for heading in ("counted", "paper", "apart"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("agrees", no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in rows:
        letter = "M" if row.unit == 1e6 else "G"
        counted, paper = f"{row.counted / row.unit:.3f} {letter}", f"{row.paper:.2f} {letter}"
        agrees = Text("yes", style="green") if row.agrees else Text("no", style="yellow")
        table.add_row(row.what, counted, paper, f"{100 * row.difference:+.1f} %", agrees, row.why)
    make_console().print(table)
