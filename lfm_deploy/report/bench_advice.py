"""Which engine to ship by a benchmark: the fastest on a device, over all precisions, of those that broke no gate.

A benchmark sees speed alone. Whether an engine keeps the checkpoint's decisions is known from the last verification,
where that judged the very file that was measured.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lfm_deploy.report.findings import outcome_of
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.workdir import Workdir

_KNOWN = {
    "holds": "and holds its gates",
    "undecided": "but the last verification had too few pictures to say that it holds its gates",
    "": "but no verification has judged it: run 'lfm-deploy verify'",
}


def read_outcomes(workdir: Workdir) -> dict[str, str]:
    """What the last verification found (``holds``, ``undecided``, ``fails``), by name of a file that is still the same.

    Args:
        workdir: workdir with a report; without one, or with one that cannot be read, nothing is known.
    """
    try:
        engines = json.loads(workdir.report.read_text(encoding="utf-8"))["engines"]
        judged = [engine for engine in engines if engine["kind"] == "engine" and engine["not_run"] is None]
        files = {engine["file"]: (engine["sha256"], outcome_of(engine)) for engine in judged}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {
        name: outcome
        for name, (digest, outcome) in files.items()
        if (workdir.path / name).is_file() and sha256_of_file(workdir.path / name) == digest
    }


def recommend(engines: Sequence[Mapping[str, Any]], outcomes: Mapping[str, str]) -> list[str]:
    """A line for each device on which engines of several precisions were timed at one batch size.

    Args:
        engines: entries of a benchmark's ``engines``.
        outcomes: outcomes from ``read_outcomes``.
    """
    devices: dict[str, list[Mapping[str, Any]]] = {}
    for engine in engines:
        if engine["about"] is not None and not engine["file"].endswith(".pth"):
            devices.setdefault(engine["about"]["device"], []).append(engine)
    return [line for device, found in devices.items() if (line := _compare(device, found, outcomes)) is not None]


def _compare(device: str, engines: Sequence[Mapping[str, Any]], outcomes: Mapping[str, str]) -> str | None:
    rates = {
        engine["name"]: {point["batch"]: point["fps"] for point in engine["points"] if not point["not_run"]}
        for engine in engines
    }
    whole = [engine for engine in engines if outcomes.get(engine["file"]) != "fails" and rates[engine["name"]]]
    if len({engine["precision"] for engine in whole}) < 2:
        return None
    batch = max(set.intersection(*(set(rates[engine["name"]]) for engine in whole)), default=None)
    if batch is None:
        return None
    best = max(whole, key=lambda engine: rates[engine["name"]][batch])
    exact = [engine for engine in whole if engine["precision"] == "fp32"]
    times = ""
    if exact and best not in exact:
        ratio = rates[best["name"]][batch] / max(rates[engine["name"]][batch] for engine in exact)
        times = f", {ratio:.2f}x as fast as FP32,"
    outcome = outcomes.get(best["file"], "")
    verdict = f"{device}: {best['name']} is the fastest at batch {batch}{times} {_KNOWN[outcome]}"
    return f"{verdict}: ship {best['precision'].upper()} here" if outcome == "holds" else verdict
