"""All files of a report, to be written together."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from lfm_deploy.prediction.proved_range import FORMAT
from lfm_deploy.report.drawings import Drawings
from lfm_deploy.report.junit import make_junit
from lfm_deploy.report.markdown import make_markdown
from lfm_deploy.report.page import make_page
from lfm_deploy.report.schema import Report, ScoreRow
from lfm_deploy.report.thumbnails import Thumbnail
from lfm_deploy.workdir import Workdir

_COLUMNS = ("engine", "suite", "set", "category", "path", "label", "logit", "notes")


def render_all(
    report: Report,
    rows: Sequence[ScoreRow],
    thumbnails: Mapping[str, Thumbnail],
    workdir: Workdir,
) -> dict[Path, bytes]:
    """``report.json``, its views, ``scores.csv``, and ``envelope.json`` where it was measured, by path.

    Only drawings are written, to be found again.

    Args:
        report: report from ``make_report``.
        rows: rows of scores, from ``scores_as_rows``.
        thumbnails: small pictures from ``make_thumbnails``.
        workdir: workdir that the files belong to.
    """
    drawings = Drawings(workdir.drawings)
    page = make_page(report, rows, thumbnails, drawings)
    drawings.remove_others()
    content = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    envelope = {} if report["envelope"] is None else {workdir.envelope: _encode(_keep_envelope(report))}
    return envelope | {
        workdir.report: _encode(content),
        workdir.page: _encode(page),
        workdir.summary: _encode(make_markdown(report)),
        workdir.junit: make_junit(report),
        workdir.scores: _encode(_as_csv(rows)),
    }


def _keep_envelope(report: Report) -> str:
    """The envelope in a file of its own, which stays when the next report has none; predictions look at it."""
    values = {
        "format": FORMAT,
        "checkpoint_sha256": report["engines"][0]["sha256"],
        "threshold": report["threshold"],
        "made": report["made"],
        "envelope": report["envelope"],
    }
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _encode(text: str) -> bytes:
    # A file name that is not UTF-8 comes as lone surrogates, which no file of UTF-8 can hold.
    return text.encode(errors="replace")


def _as_csv(rows: Sequence[ScoreRow]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=_COLUMNS, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
