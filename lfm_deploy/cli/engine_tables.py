"""Tables of engines, of what their kernels would take at best, and which precision to ship to which card."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lfm_deploy.cli.console import make_console
from lfm_deploy.workdir import Workdir

if TYPE_CHECKING:
    from engines.builder import BuildResult
    from lfm_deploy.deployment.kernel_table import KernelTableValues


def engine_values(result: "BuildResult") -> dict[str, Any]:
    """An engine that was built, as plain values for JSON.

    Args:
        result: engine with its sidecar.
    """
    from lfm_deploy.deployment.kernel_table import describe_kernels

    info = asdict(result.info) | {
        "contract": result.info.contract.as_dict(),
        "config": result.info.config.as_dict(),
        "quantisation": None if result.info.quantisation is None else result.info.quantisation.as_dict(),
        "kernels": describe_kernels(result.info),
    }
    return {"engine": str(result.engine), "sidecar": str(result.sidecar), "log": str(result.log)} | info


def print_engines(results: list["BuildResult"]) -> None:
    """Print what was built: a line for each engine, then the kernels of each.

    Args:
        results: engines with their sidecars.
    """
    from lfm_deploy.deployment.kernel_table import describe_kernels
    from lfm_deploy.report.tables import make_table

    table = make_table("engines")
    table.add_column("engine", overflow="fold")
    for heading in ("batch", "plan", "weights", "activations", "built in"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        info = result.info
        table.add_row(
            str(result.engine),
            ",".join(map(str, info.batch)),
            _mib(info.plan_bytes),
            _mib(info.weights_bytes),
            _mib(info.activation_bytes),
            f"{info.build_seconds:.2f} s",
        )
    table.caption, table.caption_justify = (
        "activations: GPU memory for the largest batch, as the build log states",
        "left",
    )
    make_console().print(table)
    for result in results:
        kernels = describe_kernels(result.info)
        if kernels is not None:
            print_kernels(result.engine.name, kernels)


def print_kernels(name: str, table: "KernelTableValues") -> None:
    """Print the kernels of an engine.

    Args:
        name: name of the engine, for the heading.
        table: kernels, from ``describe_kernels``.
    """
    from lfm_deploy.deployment.kernel_table import show_arithmetic, show_name
    from lfm_deploy.report.tables import make_table

    card = table["cards"][0]["card"] if table["cards"] else "no card known"
    view = make_table(f"{name}: kernels for one picture of a batch of {table['batch']}, at best on {card}")
    view.add_column("kernel", no_wrap=True)
    view.add_column("kind", no_wrap=True)
    for heading in ("MB moved", "10⁶ mul-adds"):
        view.add_column(heading, justify="right", no_wrap=True)
    view.add_column("in", no_wrap=True)
    view.add_column("µs", justify="right", no_wrap=True)
    for row in table["kernels"]:
        kernel, time = row["kernel"], row["microseconds"]
        view.add_row(
            show_name(kernel),
            kernel["kind"],
            f"{kernel['picture_bytes'] / 1e6:.2f}",
            f"{kernel['multiply_adds'] / 1e6:.1f}" if kernel["multiply_adds"] else "-",
            show_arithmetic(kernel),
            "-" if time is None else f"{time:.2f}",
        )
    moved, products = table["picture_bytes"] / 1e6, table["multiply_adds"] / 1e6
    view.caption = f"together {moved:.1f} MB and {products:,.0f} million multiply-adds; graph as {table['form']}"
    console = make_console()
    console.print(view)
    if table["cards"]:
        speeds = ", ".join(f"{entry['card']} {entry['fps']:,}" for entry in table["cards"])
        console.print(f"{name}: at most {speeds} pictures/s, by its kernels; not measured", soft_wrap=True)


def print_advice(workdir: Workdir, gpus: Sequence[str]) -> None:
    """Print which precision to ship to which card, of the engines that a workdir has for some GPUs.

    Args:
        workdir: a folder with engines.
        gpus: compute capabilities, such as ``["sm86"]``.
    """
    from lfm_deploy.deployment.kernel_table import advise_cards, describe_kernels
    from lfm_deploy.engine_info import read_engine_info
    from lfm_deploy.errors import ArtifactError

    found = []
    for path in workdir.engines():
        try:
            info = read_engine_info(path)
        except ArtifactError:
            continue  # of another version; inspect names it
        table = describe_kernels(info)
        if table is not None and info.gpu in gpus:
            found.append((str(info.precision), table))
    console = make_console()
    for line in advise_cards(found):
        console.print(line, soft_wrap=True)


def _mib(size: int | None) -> str:
    return "not stated" if size is None else f"{size / 2**20:.1f} MiB"
