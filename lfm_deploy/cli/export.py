"""``lfm-deploy export``: from a checkpoint to an ONNX file that is proved equal to it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lfm_deploy.cli.console import FILE, Choice, json_option, make_console, print_json, workdir_option
from lfm_deploy.cli.console import say as on_message
from lfm_deploy.workdir import Workdir

if TYPE_CHECKING:
    from export.exporter import ProvedGraph


@click.command("export")
@click.argument("checkpoint", metavar="CHECKPOINT.pth", type=FILE)
@click.option("--size", type=int, default=256, show_default=True, help="Side of the square input in pixels.")
@click.option(
    "--dynamic-size",
    is_flag=True,
    help="In place of --size: take any even height and width (GANGen-Detection needs it).",
)
@click.option(
    "--input",
    "form",
    type=Choice(["uint8", "float"]),
    default="uint8",
    show_default=True,
    help="uint8: raw pixels (N, H, W, 3). float: normalised float32 (N, 3, H, W).",
)
@click.option(
    "--evidence",
    is_flag=True,
    help="Add outputs that show where a verdict came from: the pooled values and their positions.",
)
@click.option("--ema", is_flag=True, help="Of a file that holds weights and their average, take the average.")
@workdir_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    checkpoint: Path,
    size: int,
    dynamic_size: bool,
    form: str,
    evidence: bool,
    ema: bool,
    workdir: Workdir,
    as_json: bool,
) -> None:
    """Export a checkpoint to ONNX, proved equal to it on real pixels.

    Writes lfm.onnx, which takes any number of pictures at a time, and lfm.pth, a copy of the checkpoint; where the
    proof fails, neither.
    """
    if dynamic_size and context.get_parameter_source("size") is not click.core.ParameterSource.DEFAULT:
        raise click.UsageError("--size and --dynamic-size exclude each other")
    from export.graph import ExportConfig
    from lfm_deploy.artifacts import InputForm, Precision
    from lfm_deploy.deployment.deployment import export_into

    config = ExportConfig(size="native" if dynamic_size else size, input=InputForm(form), evidence=evidence)
    graph = export_into(workdir, checkpoint, config, on_message, ema=ema)
    path = workdir.graph(Precision.FP32)
    if as_json:
        print_json(
            {
                "file": str(path),
                "sha256": graph.sha256,
                "bytes": len(graph.content),
                "opset": graph.opset,
                "operators": graph.nodes,
                "proof": [asdict(row) for row in graph.proof],
            }
        )
    else:
        print_proof(graph, path)


def print_proof(graph: "ProvedGraph", path: Path) -> None:
    """The table of a proof, for people."""
    from lfm_deploy.report.tables import make_table

    console = make_console()
    console.print(
        f"{path}: {graph.nodes} operators, opset {graph.opset}, {len(graph.content) / 2**20:.1f} MiB, "
        f"sha256 {graph.sha256[:12]}"
    )
    table = make_table("proof: ONNX Runtime against the published forward pass")
    for heading in ("tiles", "batch", "pictures", "max |Δlogit|", "mean |Δlogit|", "flips"):
        table.add_column(heading, justify="right")
    for row in graph.proof:
        table.add_row(
            f"{row.size[1]}x{row.size[0]}",
            str(row.batch),
            str(row.pictures),
            f"{row.max_error:.1e}",
            f"{row.mean_error:.1e}",
            str(row.flips),
        )
    console.print(table)
