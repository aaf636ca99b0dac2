"""``lfm-deploy verify``: whether every engine makes the checkpoint's decisions, with a report."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfm_deploy.cli.console import (
    FOLDER,
    Choice,
    compiled_option,
    json_option,
    make_console,
    max_pixels_option,
    print_json,
    progress_bar,
    say,
    say_left_out,
    size_option,
    warn_of_decoding,
    workdir_option,
)
from lfm_deploy.workdir import Workdir, remove_reports

if TYPE_CHECKING:
    from lfm_deploy.contract import SizePolicy
    from lfm_deploy.report.schema import Report
    from lfm_deploy.suites import Suite
    from lfm_deploy.verification.verification_result import Verification
    from lfm_deploy.verification.verify_options import VerifyOptions

_INTERRUPTED = 130
_EXIT_CODES = {"passed": 0, "failed": 1, "undecided": 1, "nothing": 3}
_SHOWN_PAIRS = 3
_KEPT = "the scores so far are kept, and the same command goes on from there"


@click.command("verify")
@click.option(
    "--suite",
    required=True,
    metavar="NAME|FOLDER|LIST",
    help="A suite, a group (gan, diffusion, all), a folder, a list (.csv).",
)
@click.option("--data", type=FOLDER, help="Where the published suites lie.  [default: $LFM_DATA or ./data]")
@size_option
@click.option("--device", default="cpu", show_default=True, help="For PyTorch and ONNX Runtime: cpu, cuda or cuda:N.")
@compiled_option
@max_pixels_option
@click.option("--strict", is_flag=True, help="A picture that cannot be read is an error.")
@click.option("--batch", type=click.IntRange(1, 4096), default=32, show_default=True, help="Pictures at a time.")
@click.option("--no-speed", is_flag=True, help="Measure no FPS.")
@click.option("--no-cache", is_flag=True, help="Compute every logit anew, and keep none for the next time.")
@click.option(
    "--limits", metavar="acc=…,ap=…,flips=…%", help="What FP16, BF16 and INT8 are held to, in points and per cent."
)
@click.option(
    "--detector",
    "detectors",
    multiple=True,
    metavar="FILE.toml",
    type=click.Path(path_type=Path),
    help="A foreign ONNX detector to put beside the engines; repeatable.",
)
@click.option(
    "--decoder",
    "decoders",
    multiple=True,
    type=Choice(["pillow", "simplejpeg", "nvimagecodec"]),
    help="A decoder to judge against Pillow like an engine; repeatable.",
)
@click.option("--envelope", is_flag=True, help="Also judge the pictures after JPEG, WebP, resizing, cropping, blur.")
@click.option("--aligned", is_flag=True, help="Also judge the fakes stored as the real pictures of their set are.")
@click.option(
    "--envelope-engine", metavar="NAME", help="Engine for --envelope and --aligned.  [default: the FP32 graph]"
)
@click.option("--allow-undecided", is_flag=True, help="Exit 0 where pictures are too few to decide a gate.")
@workdir_option
@json_option
def command(
    suite: str,
    data: Path | None,
    size: "SizePolicy | None",
    device: str,
    compiled: bool,
    strict: bool,
    batch: int,
    no_speed: bool,
    no_cache: bool,
    limits: str | None,
    detectors: tuple[Path, ...],
    decoders: tuple[str, ...],
    envelope: bool,
    aligned: bool,
    envelope_engine: str | None,
    allow_undecided: bool,
    workdir: Workdir,
    as_json: bool,
) -> int:
    """Check that every engine makes the checkpoint's decisions.

    Scores every engine of the workdir and the checkpoint in PyTorch over a suite, compares decisions and logits,
    judges the gates, and writes report.html, report.json, report.md, report.xml (JUnit)
    and scores.csv into the workdir. A folder as suite holds
    0_real/ and 1_fake/, or folders that do; a list is a .csv file with the header path,label[,set[,category]].

    What was computed before is not computed again: scores.sqlite in the workdir knows it by the content of engines and
    pictures.
    """
    from calib.search_findings import describe_quantisation
    from engines.host import keep_freed_memory
    from lfm_deploy.quantisation import Budget
    from lfm_deploy.report.document import make_report
    from lfm_deploy.report.terminal import print_report
    from lfm_deploy.storage.overlap import refuse_input
    from lfm_deploy.suites import load_suites
    from lfm_deploy.verification.verify_options import VerifyOptions

    keep_freed_memory()
    refuse_input("--workdir", [*workdir.reports, workdir.score_cache], [suite, *detectors])
    options = VerifyOptions(
        device=device,
        compiled=compiled,
        strict=strict,
        batch=batch,
        speed_seconds=0 if no_speed else VerifyOptions().speed_seconds,
        limits=None if limits is None else Budget.parse(limits),
        decoders=decoders,
        detectors=detectors,
        envelope=envelope or (envelope_engine is not None and not aligned),
        aligned=aligned,
        envelope_engine=envelope_engine,
        use_cache=not no_cache,
    )
    warn_of_decoding()
    suites = load_suites(suite, data, size=size)
    files = [workdir.checkpoint, *workdir.graphs(), *workdir.engines()]
    say(f"taking {', '.join(path.name for path in files if path.is_file()) or 'nothing'} from {workdir.path}")
    for one in suites:
        say_left_out(one.left_out, one.name)
    if workdir.path.is_dir():
        with workdir.lock(say):  # a folder that cannot be written is said before the cache stumbles over it
            pass
    found = _verify_unless_interrupted(workdir, suites, options)
    if found is None:
        return _INTERRUPTED
    _warn_of_pairs(found)
    _warn_of_confounders(found)
    quantised = describe_quantisation(workdir, lambda line: say(f"Warning: {line}"))
    report = make_report(found, device=device, quantised=quantised)
    write_report(workdir, report, found)
    if as_json:
        print_json(report)
    else:
        print_report(report, make_console())
        say(f"written: {workdir.page}, {workdir.report}, report.md, report.xml and scores.csv beside them")
    outcome = str(found.outcome)
    return 0 if outcome == "undecided" and allow_undecided else _EXIT_CODES[outcome]


def _verify_unless_interrupted(
    workdir: Workdir, suites: "list[Suite]", options: "VerifyOptions"
) -> "Verification | None":
    """Verify with a progress bar; None where Ctrl-C came, after saying what that leaves."""
    from lfm_deploy.verification.verification import verify

    begun = False

    def begin() -> None:
        nonlocal begun
        remove_reports(workdir, say)
        begun = True

    try:
        with progress_bar() as update:
            return verify(
                workdir,
                suites,
                options,
                on_start=begin,
                on_warning=lambda line: say(f"Warning: {line}"),
                on_progress=update,
            )
    except KeyboardInterrupt:
        kept = _KEPT if options.use_cache else "without --no-cache, scores would have been kept"
        say(f"Interrupted, there is no report; {kept}." if begun else "Interrupted before scoring began.")
        return None


def _warn_of_pairs(found: "Verification") -> None:
    """Files that are real and fake at once, on stderr."""
    for pair in found.in_both_classes[:_SHOWN_PAIRS]:
        say(f"Warning: {pair.suite}: the same file is real and fake: {pair.real} and {pair.fake}")
    if len(found.in_both_classes) > _SHOWN_PAIRS:
        say(f"Warning: … and {len(found.in_both_classes) - _SHOWN_PAIRS} more such pairs, all in the report")


def _warn_of_confounders(found: "Verification") -> None:
    """What a detector of file formats would live on, on stderr: of each suite the property that tells most."""
    for suite in found.suites:
        of_suite = found.storage[suite.name].confounders
        if of_suite:
            worst = max(of_suite, key=lambda one: one.auc)
            more = f" (and {len(of_suite) - 1} more, in the report)" if len(of_suite) > 1 else ""
            say(f"Warning: {worst}{more}; --aligned judges fakes that are stored as real pictures are")


def write_report(workdir: Workdir, report: "Report", found: Any) -> None:
    """Write report.json, its views report.html, report.md and report.xml, and scores.csv together."""
    from lfm_deploy.report.document import scores_as_rows
    from lfm_deploy.report.files import render_all
    from lfm_deploy.report.thumbnails import make_thumbnails
    from lfm_deploy.storage.atomic import write_together

    rows = scores_as_rows(found)
    with workdir.lock(say):
        write_together(render_all(report, rows, make_thumbnails(report, rows, workdir), workdir))
