"""``lfm-deploy triton``: a model repository for Triton Inference Server."""

from pathlib import Path

import click

from lfm_deploy.cli.console import FOLDER, Choice, json_option, make_console, print_json, say, workdir_option
from lfm_deploy.workdir import Workdir

_PRECISIONS = ["fp32", "fp16", "int8"]


@click.command("triton")
@click.argument("out", metavar="OUT", type=FOLDER)
@click.option(
    "--precision", type=Choice(_PRECISIONS), default="fp32", show_default=True, help="Precision of the ONNX graph."
)
@click.option(
    "--plans",
    type=Choice(_PRECISIONS),
    help="Precision of the TensorRT plans.  [default: the only one there is, fp16 of several]",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT where it is there already.")
@json_option
@workdir_option
def command(out: Path, precision: str, plans: str | None, overwrite: bool, as_json: bool, workdir: Workdir) -> None:
    """Write a model repository that Triton Inference Server loads as it is.

    OUT gets lfm_onnx (the graph), lfm_trt (TensorRT plans, where there are some), lfm_jpeg (files in, predict's rows
    out) and a README that says what each needs.
    """
    from lfm_deploy.artifacts import Precision
    from lfm_deploy.report.tables import make_table
    from lfm_deploy.serving.repository import write_repository

    found = write_repository(
        workdir,
        out,
        precision=Precision(precision),
        plan_precision=None if plans is None else Precision(plans),
        overwrite=overwrite,
        on_message=say,
    )
    if as_json:
        values = {"path": str(found.path), "models": dict(found.models), "left_out": dict(found.left_out)}
        print_json(values | {"tensorrt": found.tensorrt})
        return
    table = make_table("")
    table.add_column("model")
    table.add_column("runs")
    for name, file in found.models.items():
        table.add_row(name, file)
    console = make_console()
    console.print(table)
    console.print(f"start it with: tritonserver --model-repository {found.path}")
