"""The report of a verification: JSON first; all other forms are views of it."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from calib.findings_schema import DescribedFindings
from lfm_deploy.contract import describe_threshold
from lfm_deploy.environment import describe_environment
from lfm_deploy.metrics.estimate import CONFIDENCE
from lfm_deploy.metrics.gate import Outcome, VerdictOutcome
from lfm_deploy.metrics.resampling import ROUNDS, SEED
from lfm_deploy.report.advice import advise
from lfm_deploy.report.engine_document import describe_engine
from lfm_deploy.report.schema import GroupValues, Report, ScoreRow, SuiteValues
from lfm_deploy.suites import GROUPS, Suite
from lfm_deploy.suites.published import published_table
from lfm_deploy.verification.verification_result import EngineResult, Verification

FORMAT = "lfm-deploy report 4"


def make_report(
    verification: Verification,
    *,
    device: str,
    quantised: Mapping[str, DescribedFindings] | None = None,
    command: Sequence[str] | None = None,
    at: datetime | None = None,
) -> Report:
    """A verification as plain values for JSON; accuracies and AP in per cent, as the paper prints them.

    Args:
        verification: findings of the verification.
        device: device that PyTorch and ONNX Runtime ran on.
        quantised: origin of the INT8 graphs, by recipe, from ``describe_quantisation``.
        command: command line that made the report; None takes this process's.
        at: time of the report; None is now.
    """
    limits, envelope, chosen = verification.limits, verification.envelope, verification.contract.chosen
    published = {suite.name for suite in verification.suites if suite.published}
    engines = [describe_engine(engine, published) for engine in verification.engines]
    return {
        "format": FORMAT,
        "made": {
            "at": (at or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "command": list(command) if command is not None else _own_command(),
        },
        "verdict": {
            "outcome": str(verification.outcome),
            "passed": verification.passed,
            "text": _verdict(verification, device),
            "threshold": f"decisions and gates are at the threshold {describe_threshold(verification.contract)}",
            "not_run": [engine.name for engine in verification.engines if engine.not_run is not None],
        },
        "device": device,
        "threshold": verification.contract.threshold,
        "uncertain_above": verification.contract.uncertain_above,
        "threshold_origin": None if chosen is None else asdict(chosen),
        "limits": None if limits is None else limits.as_dict(),
        "statistics": {"rounds": ROUNDS, "seed": SEED, "confidence": round(100 * CONFIDENCE)},
        "suites": [_asked(suite, verification) for suite in verification.suites],
        "group": _group(verification.suites),
        "engines": engines,
        "envelope": None if envelope is None else envelope.as_dict(),
        "aligned": None if verification.aligned is None else verification.aligned.as_dict(),
        "advice": advise(engines),
        "quantisation": dict(quantised or {}),
        "skipped": [{"path": str(picture.path), "reason": picture.reason} for picture in verification.skipped],
        "environment": describe_environment(),
    }


def scores_as_rows(verification: Verification) -> list[ScoreRow]:
    """Every logit with its picture: the rows from which every table is drawn."""
    notes = {suite.name: _notes_of(verification, suite) for suite in verification.suites}
    return [
        {
            "engine": engine,
            "suite": suite,
            "set": name,
            "category": category,
            "path": str(path),
            "label": int(label),
            "logit": float(logit),
            "notes": "; ".join(notes[suite].get(path, ())),
        }
        for (engine, suite), parts in verification.scores.items()
        for name, scores in parts
        for path, label, logit, category in zip(
            scores.paths, scores.labels, scores.logits, scores.categories, strict=True
        )
    ]


def _notes_of(verification: Verification, suite: Suite) -> Mapping[Path, tuple[str, ...]]:
    storage = verification.storage.get(suite.name)
    return {} if storage is None else storage.notes


def _own_command() -> list[str]:
    """This process's command line, by the name that people type."""
    return ["lfm-deploy", *sys.argv[1:]]


def _asked(suite: Suite, verification: Verification) -> SuiteValues:
    """A suite as it was judged: its test sets with the pictures that could be read."""
    parts = verification.scores.get((verification.engines[0].name, suite.name), [])
    table = published_table(suite.name) if suite.published else None
    storage = verification.storage.get(suite.name)
    return {
        "name": suite.name,
        "size": suite.size,
        "pictures": sum(len(scores.paths) for _, scores in parts),
        "sets": [
            {"name": part, "real": int((scores.labels == 0).sum()), "fake": int((scores.labels == 1).sum())}
            for part, scores in parts
        ],
        "published": None if table is None else table.as_dict(),
        "in_both_classes": [
            {"sha256": pair.sha256, "real": str(pair.real), "fake": str(pair.fake)}
            for pair in verification.in_both_classes
            if pair.suite == suite.name
        ],
        "confounders": [] if storage is None else [one.as_dict() for one in storage.confounders],
        "outside": None if storage is None else storage.outside,
    }


def _group(suites: Sequence[Suite]) -> GroupValues | None:
    """The published figures of a group, where all suites of one were judged."""
    names = tuple(suite.name for suite in suites if suite.published)
    group = next((group for group, members in GROUPS.items() if members == names), None)
    table = None if group is None else published_table(group)
    return None if group is None or table is None else {"name": group, "published": table.as_dict()}


def _verdict(verification: Verification, device: str) -> str:
    """The verdict in one line."""
    ran, outcome = verification.compared, verification.outcome
    place = "on CPU" if device == "cpu" else f"on {device}"
    engines = sum(engine.kind == "engine" for engine in verification.engines)
    waiting = engines - len(ran)
    rest = f"; {waiting} not run" if waiting else ""
    if outcome is VerdictOutcome.FAILED:
        broken = ", ".join(engine.name for engine in verification.engines if engine.failed)
        return f"FAILED {place}: {broken} broke a gate{rest}"
    if outcome is VerdictOutcome.NOTHING:
        return f"NOTHING VERIFIED {place}: no engine could run{rest}"
    if outcome is VerdictOutcome.UNDECIDED:
        return f"UNDECIDED {place}: {_describe_undecided(ran)}{rest}"
    return f"PASSED {place}: {len(ran)} of {engines} engines hold their gates{rest}"


def _describe_undecided(engines: list[EngineResult]) -> str:
    """For whom the pictures are too few, and how many would do."""
    gates = [(engine, gate) for engine in engines for gate in engine.gates if gate.outcome is Outcome.UNDECIDED]
    names = dict.fromkeys(engine.name for engine, _ in gates)
    pictures = {suite.suite: suite.pictures for engine in engines for suite in engine.suites}
    few = " and ".join(f"{pictures[suite]:,}" for suite in dict.fromkeys(gate.suite for _, gate in gates))
    needs = [gate.need for _, gate in gates]
    decide = "a figure lies on its limit" if None in needs else f"need ≥ {max(need or 0 for need in needs):,}"
    return f"no gate fails, but these {few} pictures are too few for {', '.join(names)}; {decide}"
