"""The operating envelope: how an engine decides after what happens to pictures on their way to it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from lfm_deploy.artifacts import Precision
from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import Contract, SizePolicy, check_contract
from lfm_deploy.deployment.lineup import Candidate, find_candidates
from lfm_deploy.errors import ArtifactError, ConfigError
from lfm_deploy.pictures.decoding import Source
from lfm_deploy.pictures.images import ImageBatch, read_batches
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.scoring.score_cache import ScoreCache
from lfm_deploy.scoring.scorers import Reading, Scorer, Task, plan_tasks, published_reading, run_tasks
from lfm_deploy.scoring.suite_scores import make_tasks
from lfm_deploy.suites import Suite, TestSet
from lfm_deploy.verification.conditions import Condition, describe_encoders, standard_conditions
from lfm_deploy.verification.envelope_figures import ConditionResult, Envelope, SetScores, estimate_suite
from lfm_deploy.workdir import Workdir


def find_envelope_engine(workdir: Workdir, suites: Sequence[Suite], name: str | None, device: str) -> Candidate:
    """The engine to measure: the one of this name, else the FP32 graph.

    Args:
        workdir: a folder that a checkpoint was exported into.
        suites: that it is to judge.
        name: as in reports, such as ``"onnxruntime int8 cpu"``; None takes ``lfm.onnx``.
        device: where PyTorch and ONNX Runtime run: ``"cpu"`` or ``"cuda"``.

    Raises:
        ArtifactError: there is no FP32 graph, or an artifact is damaged, stale or foreign.
        ConfigError: no engine has this name.
        ContractError: it was made for other pictures than a suite asks for.
    """
    candidates = find_candidates(workdir, device)
    graph = workdir.graph(Precision.FP32)
    chosen = [one for one in candidates if (one.path == graph if name is None else one.name == name)]
    if not chosen and name is None:
        raise ArtifactError(f"{graph}: no such graph; make it with 'lfm-deploy export CHECKPOINT.pth'")
    if not chosen:
        known = ", ".join(candidate.name for candidate in candidates)
        raise ConfigError(f"{workdir.path}: no engine {name!r} for the operating envelope; there are {known}")
    if chosen[0].contract is not None:
        for suite in suites:
            check_contract(chosen[0].contract, Contract(size=suite.size), str(chosen[0].path))
    return chosen[0]


def measure_envelope(
    scorer: Scorer,
    suites: Sequence[Suite],
    *,
    threshold: float = 0.0,
    cache: ScoreCache | None = None,
    conditions: Sequence[Condition] | None = None,
    batch: int = 32,
    on_progress: Progress = ignore_progress,
) -> Envelope:
    """Judge the pictures of suites after each condition, through the cache, so that a killed run goes on.

    Args:
        scorer: of the engine that judges, ``required``, so that it is an error where it cannot run.
        suites: from ``load_suites``; the figures are over all of them together.
        threshold: of the engine's contract.
        cache: that remembers logits; None remembers nothing.
        conditions: to try; None takes the standard ones.
        batch: pictures at a time.
        on_progress: called with what is done, how many pictures over all conditions, and of how many.

    Raises:
        UnavailableError, OtherGpuError: the engine cannot run here.
    """
    if conditions is None:
        conditions = standard_conditions(next((suite.size for suite in suites if suite.size != "native"), 256))
    planned = [(suite, make_tasks(suite, published_reading(suite.size, batch), on_progress)) for suite in suites]
    each = sum(len(task.paths) for _, tasks in planned for task in tasks)
    results = []
    for number, condition in enumerate(conditions):

        def count(_: str, done: int, __: int, before: int = number * each) -> None:
            on_progress("operating envelope", before + done, len(conditions) * each)

        tasks = [
            replace(task, what="operating envelope", reading=_read_after(condition, suite.size, batch), found={})
            for suite, parts in planned
            for task in parts
        ]
        plan_tasks(tasks, [scorer], cache)
        run_tasks(tasks, [scorer], cache, count)
        sets = [(_named(suite, part, len(suites)), part) for suite in suites for part in suite.sets]
        results.append(_summarise(condition, sets, tasks, scorer.name, threshold))
    return Envelope(
        engine=scorer.name,
        suites=tuple(suite.name for suite in suites),
        conditions=tuple(results),
        cached=scorer.cached,
    )


def _read_after(condition: Condition, size: SizePolicy, batch: int) -> Reading:
    """Pictures as the authors' protocol reads them, after something happened to them."""
    published = published_reading(size, batch)
    if condition.change is None:
        return published

    def to_source(path: Path) -> Source:
        return Source(str(path), partial(condition.load, path))

    def read(paths: Sequence[Path], config: ModelConfig) -> Iterator[ImageBatch]:
        return read_batches(paths, size, batch=batch, config=config, to_source=to_source)

    changed = {"condition": [condition.name, condition.what], "encoders": describe_encoders()}
    return Reading(values={**published.values, **changed}, read=read)


def _named(suite: Suite, part: TestSet, suites: int) -> str:
    """Name of a test set; suites have sets of the same names, so that of several each says its suite."""
    return part.name if suites == 1 else f"{suite.name}/{part.name}"


def _summarise(
    condition: Condition, sets: Sequence[tuple[str, TestSet]], tasks: Sequence[Task], scorer: str, threshold: float
) -> ConditionResult:
    reasons: Counter[str] = Counter()
    scores = []
    for (name, part), task in zip(sets, tasks, strict=True):
        answers = task.found[scorer]
        reasons.update(answer for answer in answers if isinstance(answer, str))
        judged = [
            (image.label, answer)
            for image, answer in zip(part.images, answers, strict=True)
            if answer is not None and not isinstance(answer, str)
        ]
        finite = [(label, logit) for label, logit in judged if np.isfinite(logit)]
        if len(finite) < len(judged):
            reasons["its logit is no finite number"] += len(judged) - len(finite)
        labels = np.array([label for label, _ in finite], dtype=np.int64)
        logits = np.array([logit for _, logit in finite], dtype=np.float32)
        scores.append(SetScores(name=name, labels=labels, logits=logits))
    return ConditionResult(
        condition=condition,
        pictures=sum(len(part.labels) for part in scores),
        reasons=dict(reasons.most_common()),
        figures=estimate_suite(scores, threshold),
    )
