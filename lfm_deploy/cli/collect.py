"""``lfm-deploy collect``: the results of all shards of a list as one table, or what is wrong with them."""

import sys
from typing import TYPE_CHECKING

import click

from lfm_deploy.cli.console import PLACE, json_option, print_json, say
from lfm_deploy.storage.places import Place

if TYPE_CHECKING:
    from lfm_deploy.prediction.collection import Collection


@click.command("collect")
@click.argument("folder", metavar="OUT", type=PLACE)
@click.argument("paths", metavar="[PATHS...]", nargs=-1)
@click.option(
    "--list", "--from-list", "lists", metavar="FILE", multiple=True, help="List that predict was given; - is stdin."
)
@click.option(
    "--output", type=PLACE, help="File to write the rows to; .parquet makes it Parquet.  [default: standard output]"
)
@click.option("--overwrite", is_flag=True, help="Replace the file of --output.")
@json_option
def command(
    folder: Place, paths: tuple[str, ...], lists: tuple[str, ...], output: Place | None, overwrite: bool, as_json: bool
) -> None:
    """Put the results of predict --output-dir OUT together: every shard exactly once, in the order of the list.

    PATHS and lists are those that predict was given. Where a shard is missing, double or foreign, or was judged by
    another engine or under another contract, nothing is written and the error names it. Each of these, OUT and the file
    of --output may be a URL of a store, such as s3://bucket/out.
    """
    if not paths and not lists:
        raise click.UsageError("name the list that predict was given, with --list")
    if as_json and output is None:
        raise click.UsageError("--json prints the summary, so that the rows need --output")
    if overwrite and output is None:
        raise click.UsageError("--overwrite is for --output")
    from lfm_deploy.prediction.collection import collect

    found = collect(folder, paths, lists=lists, output=output, overwrite=overwrite)
    if output is None:
        for rows in found.rows():
            sys.stdout.buffer.write(rows)
        sys.stdout.buffer.flush()
    _summarise(found, output)
    if as_json:
        print_json(found.describe() | {"output": str(output)})


def _summarise(found: "Collection", output: Place | None) -> None:
    head = found.files[0][1]
    described = found.counts.describe(outside=head.settings.get("proved") is not None)
    say(f"{len(found.files)} parts; {described}{'' if output is None else f'; written: {output}'}")
    say(f"one engine ({str(head.settings.get('engine'))[:12]}), one contract; settings {head.settings_sha256[:12]}")
    if found.machines > 1:
        say(f"judged on {found.machines} kinds of machines: logits of equal pictures may differ in their last bits")
    if found.unreadable:
        name, problem = next(iter(found.unreadable.items()))
        others = len(found.unreadable) - 1
        say(f"could not be read whole: {name}: {problem}{f'; and {others} more' if others else ''}; rows say so")
