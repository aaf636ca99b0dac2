"""``lfm-deploy verify``."""

from pathlib import Path
from typing import Any

import click

from lfm_deploy.cli.console import FOLDER, json_option, make_console, print_json, progress_bar, say, workdir_option
from lfm_deploy.workdir import Workdir

GATE_FAILED, NOTHING_RAN = 1, 3


@click.command("verify")
@click.option("--suite", required=True, metavar="NAME|FOLDER", help="A suite, a group (gan, diffusion, all), a folder.")
@click.option("--data", type=FOLDER, help="Where the published suites lie.  [default: $LFM_DATA or ./data]")
@click.option("--device", default="cpu", show_default=True, help="For PyTorch and ONNX Runtime: cpu, cuda or cuda:N.")
@click.option("--strict", is_flag=True, help="A picture that cannot be read is an error.")
@click.option("--batch", type=click.IntRange(1, 4096), default=32, show_default=True, help="Pictures at a time.")
@click.option("--no-speed", is_flag=True, help="Measure no FPS.")
@workdir_option
@json_option
def command(
    suite: str,
    data: Path | None,
    device: str,
    strict: bool,
    batch: int,
    no_speed: bool,
    workdir: Workdir,
    as_json: bool,
) -> int:
    """Check that every engine makes the checkpoint's decisions.

    Scores every engine of the workdir and the checkpoint in PyTorch over a suite, compares decisions and logits,
    judges the gates, and writes report.html, report.json and scores.csv into the workdir. A folder as suite holds
    0_real/ and 1_fake/, or folders that do.
    """
    from engines.host import keep_freed_memory
    from lfm_deploy.quantising import describe_quantisation
    from lfm_deploy.report.document import make_report
    from lfm_deploy.report.terminal import print_report
    from lfm_deploy.suites import load_suites
    from lfm_deploy.verification import verify

    keep_freed_memory()
    suites = load_suites(suite, data)
    files = [workdir.checkpoint, *workdir.graphs(), *workdir.engines()]
    say(f"taking {', '.join(path.name for path in files if path.is_file()) or 'nothing'} from {workdir.path}")
    with progress_bar() as update:
        found = verify(
            workdir,
            suites,
            device=device,
            strict=strict,
            batch=batch,
            speed_seconds=0 if no_speed else 1.0,
            on_progress=update,
        )
    quantised = describe_quantisation(workdir)
    report = make_report(found, suites={part.name: part.size for part in suites}, device=device, quantised=quantised)
    write_report(workdir, report, found)
    if as_json:
        print_json(report)
    else:
        print_report(report, make_console())
        say(f"written: {workdir.page}, {workdir.report} and {workdir.scores}")
    if not found.compared:
        return NOTHING_RAN
    return 0 if found.passed else GATE_FAILED


def write_report(workdir: Workdir, report: dict[str, Any], found: Any) -> None:
    """Write report.json, its views report.html, report.md and report.xml, and scores.csv together."""
    from lfm_deploy.atomic import write_together
    from lfm_deploy.report.document import scores_as_rows
    from lfm_deploy.report.files import render_all
    from lfm_deploy.report.thumbnails import make_thumbnails

    rows = scores_as_rows(found)
    with workdir.lock(say):
        write_together(render_all(report, rows, make_thumbnails(report, rows, workdir), workdir))
