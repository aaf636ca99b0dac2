"""The report for a pull request: GitHub-flavoured Markdown, a view of the JSON."""

import shlex
from collections.abc import Iterator, Sequence

from lfm_deploy.deployment.kernel_table import show_arithmetic, show_name
from lfm_deploy.report.engine_schema import EngineValues, ShareName
from lfm_deploy.report.figures import show_fps, show_need, show_number
from lfm_deploy.report.findings import (
    ColumnFigures,
    decoders_in_words,
    engines_compared,
    engines_that_ran,
    flipped_pictures,
    gates_to_look_at,
    outcome_of,
    published_beside,
    published_tables,
    reasons_not_run,
    suite_of,
)
from lfm_deploy.report.markdown_parts import escape, format_code, format_estimate, format_table
from lfm_deploy.report.schema import Report
from lfm_deploy.verification.envelope_values import EnvelopeValues

_MARKS = {"passed": "✅", "failed": "❌", "undecided": "⚠️", "nothing": "❌"}
_LISTED = 10


def make_markdown(report: Report) -> str:
    """The report as Markdown: verdict, engines, what to look at; the environment is folded.

    Args:
        report: report from ``make_report``.
    """
    blocks = [
        f"## {_MARKS[report['verdict']['outcome']]} {escape(report['verdict']['text'])}",
        *(f"**Not run**: {_listed(names)} ({escape(reason)})" for reason, names in reasons_not_run(report)),
        *(f"**Advice** for {escape(line)}" for line in report["advice"]),
        f"{escape(_capital(report['verdict']['threshold']))}.",
        *_engines(report),
        *(f"**Pixels**: {escape(line)}" for line in decoders_in_words(report)),
        *_gates(report),
        *_flips(report),
        *_published(report),
        *_envelope(report["envelope"], "Operating envelope"),
        *_envelope(report["aligned"], "Fakes stored as the real pictures of their set"),
        *_kernels(report),
        *_pictures(report),
        *_environment(report),
    ]
    return "\n\n".join(blocks) + "\n"


def _capital(text: str) -> str:
    """A sentence as it begins."""
    return text[:1].upper() + text[1:]


def _path(text: str) -> str:
    """A file name; inside code GitHub looks for no mentions and issue numbers."""
    return f"<code>{escape(text)}</code>"


def _engines(report: Report) -> Iterator[str]:
    for suite in report["suites"]:
        if not engines_that_ran(report):
            return
        yield f"### {escape(suite['name'])}, {suite['pictures']:,} pictures"
        rows = []
        for engine in engines_that_ran(report):
            found = suite_of(engine, suite["name"])
            against = found["against"]
            rows.append([
                escape(engine["name"]),
                _outcome(outcome_of(engine, suite["name"])),
                format_estimate(found["mean"]["acc"]),
                format_estimate(found["mean"]["ap"]),
                *(
                    ["-", "-", "-"]
                    if against is None
                    else [str(against["flips"]), format_estimate(against["delta_acc"], "+z.2f"),
                          show_number(against["logit_error"]["max"], ".2g")]
                ),
                _fastest(engine),
            ])  # fmt: skip
        headings = ["engine", "gates", "ACC %", "AP %", "flips", "ΔACC", r"max \|Δlogit\|", "pictures/s"]
        yield format_table(headings, rows, left=2)
    confidence = report["statistics"]["confidence"]
    yield f"Means over the test sets that have both classes, with {confidence} % intervals."


def _gates(report: Report) -> Iterator[str]:
    found = gates_to_look_at(report)
    if not found:
        return
    yield "### Gates that do not hold"
    rows = [
        [
            escape(name),
            escape(gate["suite"]),
            escape(gate["name"]),
            _outcome(gate["outcome"]),
            format_estimate(gate, ".3g"),
            f"{gate['limit']:g}",
            show_need(gate) or "-",
        ]
        for name, gate in found
    ]
    yield format_table(["engine", "suite", "gate", "outcome", "seen", "allowed", "to decide it"], rows, left=4)


def _flips(report: Report) -> Iterator[str]:
    if not engines_compared(report):
        return
    found = flipped_pictures(report)
    if not found:
        yield "No engine that ran changes a decision."
        return
    yield f"### Changed decisions: {len(found)} picture{'s' if len(found) != 1 else ''}"
    rows = [
        [
            _path(flip["path"]),
            "fake" if flip["label"] else "real",
            f"{flip['reference']:+.3f}",
            "<br>".join(f"{escape(name)}: {show_number(logit, '+.3f')}" for name, logit in flip["logits"].items()),
        ]
        for flip in found[:_LISTED]
    ]
    yield format_table(["picture", "is", "logit of PyTorch", "logit of engines"], rows, left=2)
    if len(found) > _LISTED:
        yield f"… and {len(found) - _LISTED} more, all in report.json."


def _published(report: Report) -> Iterator[str]:
    """ACC / AP in every column, yours with the differences to the published LFM."""
    for title, table in published_tables(report).items():
        columns = table["sets"]
        rows = []
        for method, change, figures in published_beside(report, title, ("reference", "detector")):
            cells = [f"{_one(figures, 'acc', name)} / {_one(figures, 'ap', name)}" for name in columns]
            rows.append([escape(method) + (" (yours)" if change else ""), *cells])
            if change is not None:
                deltas = [
                    f"{_one(change, 'acc', name, '+z.1f')} / {_one(change, 'ap', name, '+z.1f')}" for name in columns
                ]
                rows.append(["Δ to the published LFM", *deltas])
        heading = f"Published figures beside yours: {escape(title)}, ACC / AP %"
        notes = [f"{escape(row['method'])}, {escape(note)}" for row in table["rows"] for note in row["notes"]]
        yield _folded(heading, format_table(["method", *map(escape, columns)], rows), *notes)


def _envelope(envelope: EnvelopeValues | None, title: str) -> Iterator[str]:
    if envelope is None:
        return
    yield f"### {title}: {escape(envelope['engine'])} on {escape(envelope['suite'])}"
    rows = [
        [
            escape(condition["name"]),
            *(format_estimate(condition[key]) for key in ("acc", "acc_real", "acc_fake", "ap", "fpr")),
        ]
        for condition in envelope["conditions"]
    ]
    yield format_table(["treatment", "ACC %", "real %", "fake %", "AP %", "FPR %"], rows)


def _pictures(report: Report) -> Iterator[str]:
    twice = [picture for suite in report["suites"] for picture in suite["in_both_classes"]]
    if twice:
        lines = [f"- {_path(picture['real'])} = {_path(picture['fake'])}" for picture in twice[:_LISTED]]
        yield "\n".join([f"**In both classes**: {len(twice)}, so that one of the two labels is wrong", "", *lines])
    confounders = [one for suite in report["suites"] for one in suite["confounders"]]
    if confounders:
        yield "**Real and fake are stored differently**, so that figures may be of files and not of pictures"
        rows = [[escape(one["set"]), escape(one["property"]), f"{one['auc']:.2f}", escape(one["text"])]
                for one in confounders]  # fmt: skip
        yield format_table(["test set", "property", "AUC of it alone", "how"], rows, left=2)
    if report["skipped"]:
        lines = [f"- {_path(one['path'])}: {escape(one['reason'])}" for one in report["skipped"][:_LISTED]]
        rest = len(report["skipped"]) - _LISTED
        yield _folded(
            f"{len(report['skipped'])} pictures could not be judged",
            "\n".join(lines),
            *([f"… and {rest} more, all in report.json."] if rest > 0 else []),
        )


def _kernels(report: Report) -> Iterator[str]:
    """What engines cannot exceed by their kernels, and the kernels of each."""
    listed = [(engine["name"], engine["kernels"]) for engine in report["engines"] if engine["kernels"] is not None]
    if not listed:
        return
    speeds = [
        [escape(name), escape(entry["card"]), f"{table['picture_bytes'] / 1e6:.1f}", show_fps(entry["fps"])]
        for name, table in listed
        for entry in table["cards"]
    ]
    blocks = [format_table(["engine", "card", "MB a picture", "at most, pictures/s"], speeds, left=2)]
    for name, table in listed:
        rows = [
            [
                escape(show_name(row["kernel"])),
                escape(row["kernel"]["kind"]),
                f"{row['kernel']['picture_bytes'] / 1e6:.2f}",
                f"{row['kernel']['multiply_adds'] / 1e6:.1f}",
                escape(show_arithmetic(row["kernel"])),
                show_number(row["microseconds"]),
            ]
            for row in table["kernels"]
        ]
        card = table["cards"][0]["card"] if table["cards"] else "no card known"
        blocks.append(f"{escape(name)}, batch {table['batch']}, times on {escape(card)}:")
        blocks.append(
            format_table(["kernel", "kind", "MB moved", "10⁶ multiply-adds", "in", "µs a picture"], rows, left=2)
        )
    yield _folded("Kernels at best, by NVIDIA's figures of the cards; not measured", *blocks)


def _environment(report: Report) -> Iterator[str]:
    about = report["environment"]
    libraries = ", ".join(f"{name} {version}" for name, version in about["libraries"].items())
    rows = [[escape(engine["name"]), escape(engine["file"]), engine["sha256"]] for engine in report["engines"]]
    command = " ".join(shlex.join(report["made"]["command"]).split())
    yield _folded(
        "Environment, fingerprints, and the command to repeat it",
        format_code(command),
        escape(
            f"{report['made']['at']}: lfm-deploy {about['lfm-deploy']} on {about['processor']}, "
            f"{about['threads']} threads, {about['system']}, Python {about['python']}; {libraries}"
        ),
        format_table(["engine", "file", "sha256"], rows, left=3),
    )


def _folded(summary: str, *blocks: str) -> str:
    # Blank lines around the content make GitHub read it as Markdown.
    return "\n\n".join([f"<details><summary>{summary}</summary>", *blocks, "</details>"])


def _outcome(word: str) -> str:
    return {"fails": "**fails**", "undecided": "*undecided*"}.get(word, word)


def _one(figures: ColumnFigures, key: ShareName, column: str, form: str = ".1f") -> str:
    return show_number(figures[key][column], form)


def _fastest(engine: EngineValues) -> str:
    if not engine["speeds"]:
        return "-"
    speed = max(engine["speeds"], key=lambda one: one["fps"])
    return f"{show_fps(speed['fps'])} (batch {speed['batch']})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(escape(name) for name in names)
