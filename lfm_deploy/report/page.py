"""The report as one HTML file that needs nothing else: a view of the JSON and of the scores."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lfm_deploy.deployment import kernel_table
from lfm_deploy.report import figures, findings, illustrations
from lfm_deploy.report.drawings import Drawings
from lfm_deploy.report.headline import key_figures
from lfm_deploy.report.schema import Report, ScoreRow
from lfm_deploy.report.thumbnails import MOST_ERRORS, MOST_FLIPS, Thumbnail


def make_page(
    report: Report,
    scores: Sequence[ScoreRow],
    thumbnails: Mapping[str, Thumbnail] | None = None,
    drawings: Drawings | None = None,
) -> str:
    """The page of a report; the same arguments give the same page, byte for byte.

    Args:
        report: report from ``make_report``.
        scores: rows of scores, from ``scores_as_rows``.
        thumbnails: small pictures from ``make_thumbnails``; a picture that is not among them is named without being
            shown.
        drawings: store that remembers plots; None draws all.
    """
    environment = Environment(
        loader=PackageLoader("lfm_deploy.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": lambda value, form=".2f": _typeset(figures.show_number(value, form)),
        "interval": lambda found, form=".1f": _typeset(figures.show_interval(found, form)),
        "probability": figures.show_probability,
        "share": figures.show_share,
        "need": figures.show_need,
        "fps": figures.show_fps,
        "megabytes": lambda count: f"{count / 1e6:.2f}",
        "kernel": kernel_table.show_name,
        "arithmetic": kernel_table.show_arithmetic,
        "size": figures.show_size,
        "moment": figures.show_moment,
        "decibels": figures.show_decibels,
        "shell": shlex.join,
        "suite": lambda engine, name: findings.suite_of(engine, name),
        "outcome": findings.outcome_of,
    }
    context = _context(report, scores, thumbnails or {}, drawings or Drawings())
    return environment.get_template("page.html").render(context).strip() + "\n"


def _context(
    report: Report,
    rows: Sequence[ScoreRow],
    thumbnails: Mapping[str, Thumbnail],
    drawings: Drawings,
) -> dict[str, Any]:
    scores = illustrations.ScoreRows(rows)
    ran = findings.engines_that_ran(report)
    wrong = findings.worst_errors(report, rows, MOST_ERRORS)
    return {
        "report": report,
        "outcome": findings.OUTCOMES[report["verdict"]["outcome"]],
        "tiles": key_figures(report),
        "ran": ran,
        "decoders": findings.decoders_in_words(report),
        "reference": ran[0] if ran else None,
        "not_run": findings.reasons_not_run(report),
        "telling_gates": findings.gates_to_look_at(report),
        "tables": findings.published_tables(report),
        "published": {
            name: list(findings.published_beside(report, name)) for name in findings.published_tables(report)
        },
        "listed": [engine for engine in report["engines"] if engine["kernels"] is not None],
        "batches": sorted({speed["batch"] for engine in ran for speed in engine["speeds"]}),
        "curves": illustrations.draw_curves(report, scores, drawings),
        "histograms": illustrations.draw_histograms(report, scores, drawings),
        "scatters": illustrations.draw_scatters(report, scores, drawings),
        "speeds": illustrations.draw_speeds(report, drawings),
        "envelope": illustrations.draw_envelope(report, drawings),
        "quantised": [illustrations.draw_quantised(part, drawings) for part in report["quantisation"].values()],
        "flips": findings.flipped_pictures(report),
        "most_flips": MOST_FLIPS,
        "wrong": wrong,
        "thumbnails": thumbnails,
    }


def _typeset(figure: str) -> str:
    """A figure as it is printed: a dash for none, a minus that is as wide as a plus."""
    return "\N{EN DASH}" if figure == figures.NONE else figure.replace("-", "\N{MINUS SIGN}")
