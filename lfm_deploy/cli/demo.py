"""``lfm-deploy demo``: the command's options and its closing table."""

from pathlib import Path

import click

from lfm_deploy.cli.console import FOLDER, json_option, make_console, print_json, progress_bar, say
from lfm_deploy.workdir import Workdir


@click.command("demo")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the data and of the training.")
@click.option("--workdir", type=FOLDER, default=Path("deploy-demo"), show_default=True, help="Folder to fill.")
@json_option
def command(seed: int, workdir: Path, as_json: bool) -> int:
    """Run the whole chain on this machine with data that it makes itself.

    Makes data from photographs that ship in scikit-image and scikit-learn, trains a small LFM, exports and calibrates
    it, builds FP16 and INT8 engines, verifies them and writes a report. Downloads nothing. The model is a
    demonstration: it knows five ways of up-sampling and no generator.
    """
    from calib.search_findings import describe_quantisation
    from engines.host import keep_freed_memory
    from lfm_deploy.cli.demonstration import as_values, demonstrate
    from lfm_deploy.cli.verify import write_report
    from lfm_deploy.report.document import make_report
    from lfm_deploy.report.terminal import print_report

    keep_freed_memory()
    folder = Workdir(workdir)
    with progress_bar() as update:
        made = demonstrate(folder, seed=seed, on_message=say, on_progress=update)
    quantised = describe_quantisation(folder, say)
    report = make_report(made.verification, device="cpu", quantised=quantised)
    write_report(folder, report, made.verification)
    if as_json:
        print_json(report | {"demo": as_values(made)})
    else:
        from lfm_deploy.cli.export import print_proof

        print_proof(made.graph, folder.path / "lfm.onnx")
        print_report(report, make_console())
        say(f"seconds: {', '.join(f'{step} {seconds:g}' for step, seconds in made.seconds.items())}")
        say(f"written: {folder.page}, {folder.report}, {folder.scores}, and the engines beside them")
        say("This was a demonstration model; for a real one: lfm-deploy export YOUR_CHECKPOINT.pth")
    return 0 if made.verification.passed else 1
