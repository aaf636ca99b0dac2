"""``lfm-deploy suites``."""

import click

from lfm_deploy.cli.console import json_option, make_console, print_json


@click.command("suites")
@json_option
def command(as_json: bool) -> None:
    """List the published test suites and where their data comes from."""
    from lfm_deploy.suites import GROUPS, describe_suites

    specs = describe_suites()
    if as_json:
        print_json(
            [
                {"suite": s.name, "folder": s.folder, "size": s.size, "sets": list(s.sets), "source": s.source}
                for s in specs
            ]
        )
        return
    from lfm_deploy.tables import make_table

    console = make_console()
    table = make_table("suites, for: lfm-deploy verify --suite NAME --data FOLDER", "suite", "size")
    table.add_column("test sets", ratio=3)
    table.add_column("data comes from", ratio=4)
    for spec in specs:
        table.add_row(spec.name, str(spec.size), ", ".join(spec.sets), spec.source)
    console.print(table)
    for group, members in GROUPS.items():
        console.print(f"{group}: {', '.join(members)}")
    console.print("Each lies in FOLDER/<suite>/<test set>/[category/]{0_real,1_fake}/; any folder like that will do.")
