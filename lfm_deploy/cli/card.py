"""``lfm-deploy card``: a model card with every figure that the workdir's files have."""

from pathlib import Path

import click

from lfm_deploy.cli.console import FILE, json_option, print_json, say, workdir_option
from lfm_deploy.workdir import Workdir


@click.command("card")
@click.option("--output", type=FILE, help="File to write.  [default: MODEL_CARD.md of the workdir]")
@click.option("--name", default="LFM", show_default=True, help="Name of the model.")
@click.option("--license", "license_id", metavar="ID", help="Licence of the weights, such as apache-2.0.")
@workdir_option
@json_option
def command(output: Path | None, name: str, license_id: str | None, workdir: Workdir, as_json: bool) -> None:
    """Write MODEL_CARD.md: what the detector is, what it was proved on, and what it is not good for.

    Every figure comes from report.json, threshold.json, envelope.json and the artifacts of the workdir; what was not
    measured is said to be so, with the command that measures it. The head is that of Hugging Face, with model-index.
    """
    from lfm_deploy.report.card import make_card
    from lfm_deploy.report.card_sources import read_sources
    from lfm_deploy.storage.atomic import write_atomically

    sources = read_sources(workdir)
    text = make_card(sources, name=name, license_id=license_id)
    path = output or workdir.card
    with workdir.lock(say), write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")
    if as_json:
        found = {"threshold": sources.threshold, "envelope": sources.envelope, "aligned": sources.report["aligned"]}
        print_json({"file": str(path), "not_measured": [what for what, values in found.items() if values is None]})
    else:
        click.echo(str(path))
