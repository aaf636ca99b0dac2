"""The model card: what a detector is worth, in one file that travels with it; every figure is of a workdir's files."""

import shlex
from collections.abc import Iterator
from importlib.metadata import metadata

from lfm_deploy.contract import describe_threshold
from lfm_deploy.report.card_head import make_head
from lfm_deploy.report.card_sources import CardSources
from lfm_deploy.report.figures import show_fps, show_number
from lfm_deploy.report.findings import engines_that_ran, outcome_of, reasons_not_run, suite_of
from lfm_deploy.report.markdown_parts import escape, format_code, format_estimate, format_table
from lfm_deploy.suites.confounders import PROPERTIES
from lfm_deploy.thresholds.threshold_values import VERDICTS, ShareValues
from lfm_deploy.verification.envelope_values import EnvelopeValues

_MISSING = "Not measured; "


def make_card(sources: CardSources, *, name: str, license_id: str | None = None) -> str:
    """The card as Markdown with Hugging Face's head.

    Args:
        sources: files of the workdir.
        name: name of the model.
        license_id: licence of the weights, as Hugging Face writes it; None where nobody said.
    """
    blocks = [
        make_head(sources, name, license_id),
        f"# {escape(name)}",
        *_what_it_is(sources),
        *_proof(sources),
        *_decisions(sources),
        *_envelope(sources.envelope, "On which pictures it works", "`lfm-deploy verify --envelope` measures it."),
        *_confounders(sources),
        *_precisions(sources),
        *_speeds(sources),
        *_licence(license_id),
        *_repeat(sources),
    ]
    return "\n\n".join(blocks) + "\n"


def _what_it_is(sources: CardSources) -> Iterator[str]:
    about, contract = sources.checkpoint, sources.contract
    size = contract.size if contract.size == "native" else f"{contract.size}x{contract.size} pixels"
    labels = " or ".join(contract.labels)
    yield (
        f"A detector of generated images: it says of a picture whether it is {escape(labels)}. "
        f"{about['parameters']:,} parameters, in {about['bytes']:,} bytes ({escape(str(about['kind']))})."
    )
    yield (
        f"Pictures go in as {escape(size)}, {escape(contract.colour)}, resized by {escape(contract.resize)}; one logit "
        f"comes out. Decisions are at the threshold {escape(describe_threshold(contract))}."
    )


def _proof(sources: CardSources) -> Iterator[str]:
    report = sources.report
    yield "## What it was proved on"
    yield f"{escape(report['verdict']['text'])}. {escape(report['verdict']['threshold'])}."
    for suite in report["suites"]:
        sets = ", ".join(f"{escape(part['name'])} ({part['real']} + {part['fake']})" for part in suite["sets"])
        yield f"**{escape(suite['name'])}**, {suite['pictures']:,} pictures, real + fake: {sets}."
        rows = []
        for engine in engines_that_ran(report):
            found = suite_of(engine, suite["name"])
            against = found["against"]
            rows.append(
                [
                    escape(engine["name"]),
                    outcome_of(engine, suite["name"]),
                    *(format_estimate(found["mean"][key]) for key in ("acc", "ap", "acc_real", "acc_fake")),
                    "-" if against is None else str(against["flips"]),
                ]
            )
        headings = ["engine", "gates", "ACC %", "AP %", "real called real %", "fakes found %", "flips"]
        yield format_table(headings, rows, left=2)
    confidence = report["statistics"]["confidence"]
    yield (
        f"Means over the test sets that have both classes, with {confidence} % intervals. A flip is a decision that an "
        "engine makes otherwise than the checkpoint in PyTorch."
    )
    for reason, names in reasons_not_run(report):
        yield f"Not run: {', '.join(map(escape, names))} ({escape(reason)})."


def _decisions(sources: CardSources) -> Iterator[str]:
    yield "## What a verdict is worth"
    values = sources.threshold
    if values is None:
        yield f"{_MISSING}`lfm-deploy threshold PICTURES --fpr 1%` chooses a threshold by its false positive rate."
        return
    yield f"The threshold is {escape(describe_threshold(sources.contract))}."
    rows = [
        [kind, what, _share(values["all"][key]), _share(values["at_zero"][key])]
        for key, kind, what in VERDICTS
        if values["all"][key] is not None and ("uncertain" not in key or values["uncertain_above"] is not None)
    ]
    heading = f"at {values['threshold']:g}"
    yield format_table(["pictures", "verdict", f"{heading}, % (exact 95 % interval)", "at 0"], rows, left=2)
    called = values["all"]["real_called_fake"]
    if called is not None:
        yield f"With 95 % confidence, at most {called['bound']:.2f} % of real pictures like these are called fake."
    worst = next((group for group in values["groups"] if group["name"] == values["worst"]), None)
    if worst is not None:
        yield f"Worst group: {escape(worst['name'])}, {_share(worst['real_called_fake'])} % of its real pictures."


def _share(share: ShareValues | None) -> str:
    return "-" if share is None else format_estimate(share["share"], ".2f")


def _envelope(values: EnvelopeValues | None, title: str, remedy: str) -> Iterator[str]:
    yield f"## {title}"
    if values is None:
        yield f"{_MISSING}{remedy}"
        return
    rows = [
        [
            escape(condition["name"]),
            escape(condition["what"]),
            *(format_estimate(condition[key]) for key in ("acc", "ap", "acc_fake", "fpr")),
        ]
        for condition in values["conditions"]
    ]
    yield format_table(["treatment", "what", "ACC %", "AP %", "fakes found %", "real called fake %"], rows, left=2)
    yield f"By {escape(values['engine'])} on {escape(values['suite'])}."


def _confounders(sources: CardSources) -> Iterator[str]:
    yield "## What else could tell real from fake"
    found = [one for suite in sources.report["suites"] for one in suite["confounders"]]
    if found:
        yield "Real and fake are stored differently in these pictures, so that figures may be of files:"
        rows = [[escape(one["set"]), one["property"], f"{one['auc']:.2f}", escape(one["text"])] for one in found]
        yield format_table(["test set", "property", "AUC of it alone", "how"], rows, left=2)
    else:
        yield f"No property of the files tells the classes apart, of these: {', '.join(PROPERTIES)}."
    yield from _envelope(
        sources.report["aligned"],
        "With fakes stored as the real pictures of their set",
        "`lfm-deploy verify --aligned` judges them.",
    )


def _precisions(sources: CardSources) -> Iterator[str]:
    yield "## Precisions"
    rows = []
    for engine in sources.report["engines"]:
        made = engine["quantisation"]
        rows.append(
            [
                escape(engine["name"]),
                escape(engine["file"]),
                escape(engine["precision"]),
                "-" if made is None else f"{100 * made['int8_share']:.0f} %",
                outcome_of(engine),
                f"<code>{engine['sha256'][:12]}</code>",
            ]
        )
    yield format_table(["engine", "file", "precision", "in INT8", "gates", "sha256"], rows, left=3)
    for line in sources.report["advice"]:
        yield f"{escape(line)}."


def _speeds(sources: CardSources) -> Iterator[str]:
    yield "## Speed"
    timed = [engine for engine in sources.report["engines"] if engine["speeds"]]
    if not timed:
        yield f"{_MISSING}`lfm-deploy verify` without `--no-speed` measures it."
        return
    rows = [
        [
            escape(engine["name"]),
            str(speed["batch"]),
            show_fps(speed["fps"]),
            f"{speed['latency_ms']:.3g}",
            str(speed["threads"]),
            show_number(speed["times_pytorch"]),
        ]
        for engine in timed
        for speed in engine["speeds"]
    ]
    yield format_table(["engine", "batch", "pictures/s", "ms a batch", "threads", "x PyTorch"], rows)
    about = sources.report["environment"]
    yield f"Of decoded pictures, on {escape(about['processor'])}, {escape(about['system'])}."


def _licence(license_id: str | None) -> Iterator[str]:
    yield "## Licence"
    weights = "not stated" if license_id is None else escape(license_id)
    code = metadata("lfm-deploy")["License-Expression"]
    yield f"Weights: {weights}. lfm-deploy, which made the files: {escape(str(code))}."


def _repeat(sources: CardSources) -> Iterator[str]:
    report = sources.report
    about = report["environment"]
    yield "## How to repeat it"
    commands = [shlex.join(report["made"]["command"])]
    if sources.threshold is not None:
        commands.insert(0, _threshold_command(sources.threshold["origin"]))
    yield format_code("\n".join(commands))
    libraries = ", ".join(f"{name} {version}" for name, version in about["libraries"].items())
    yield escape(
        f"{report['made']['at']}: lfm-deploy {about['lfm-deploy']}, Python {about['python']}; {libraries}. "
        f"Checkpoint: sha256 {sources.checkpoint['sha256']}"
    )


def _threshold_command(origin: dict[str, object]) -> str:
    words = ["lfm-deploy", "threshold", str(origin["pictures"]), "--fpr", f"{100 * float(str(origin['rate'])):g}%"]
    if origin["miss_rate"] is not None:
        words += ["--band", f"{100 * float(str(origin['miss_rate'])):g}%"]
    return shlex.join(words + (["--each-group"] if origin["each_group"] else []))
