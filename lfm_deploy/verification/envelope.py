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
from lfm_deploy.deployment.lineup import Candidate
from lfm_deploy.errors import ArtifactError, ConfigError
from lfm_deploy.pictures.decoding import Source
from lfm_deploy.pictures.images import ImageBatch, read_batches
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.scoring.score_cache import ScoreCache
from lfm_deploy.scoring.scorers import Reading, Scorer, Task, plan_tasks, published_reading, run_tasks
from lfm_deploy.scoring.suite_scores import SuiteTasks
from lfm_deploy.suites import Suite, TestSet
from lfm_deploy.verification.conditions import Condition, describe_encoders, standard_conditions
from lfm_deploy.verification.envelope_figures import ConditionResult, Envelope, SetScores, estimate_suite
from lfm_deploy.workdir import Workdir


def choose_envelope_engine(
    workdir: Workdir, candidates: Sequence[Candidate], suites: Sequence[Suite], name: str | None
) -> Candidate:
    """The engine to measure: the one of this name, else the FP32 graph.

    Args:
        workdir: folder that a checkpoint was exported into.
        candidates: engines of the workdir, from ``find_candidates``.
        suites: suites that it is to judge.
        name: name in reports, such as ``"onnxruntime int8 cpu"``; None takes ``lfm.onnx``.

    Raises:
        ArtifactError: there is no FP32 graph.
        ConfigError: no engine has this name.
        ContractError: the engine was made for other pictures than a suite asks for.
    """
    graph = workdir.graph(Precision.FP32)
    chosen = [one for one in candidates if (one.path == graph if name is None else one.name == name)]
    if not chosen and name is None:
        raise ArtifactError(f"{graph}: no such graph; make it with 'lfm-deploy export CHECKPOINT.pth'")
    if not chosen:
        known = ", ".join(candidate.name for candidate in candidates)
        raise ConfigError(f"{workdir.path}: no engine {name!r} for the operating envelope; there are {known}")
    check_pictures(chosen[0], suites)
    return chosen[0]


def check_pictures(candidate: Candidate, suites: Sequence[Suite]) -> None:
    """Refuse an engine that was made for other pictures than a suite asks for.

    Args:
        candidate: engine from ``find_candidates``; the checkpoint has no contract and takes any.
        suites: suites that it is to judge.

    Raises:
        ContractError: the engine was made for other pictures than a suite asks for.
    """
    if candidate.contract is not None:
        for suite in suites:
            check_contract(candidate.contract, Contract(size=suite.size), str(candidate.path))


def measure_envelope(
    scorer: Scorer,
    planned: Sequence[SuiteTasks],
    *,
    threshold: float = 0.0,
    cache: ScoreCache | None = None,
    conditions: Sequence[Condition] | None = None,
    batch: int = 32,
    on_progress: Progress = ignore_progress,
) -> Envelope:
    """Judge the pictures of suites after each condition, through the cache, so that a killed run goes on.

    Args:
        scorer: scorer of the engine that judges, ``required``, so that it is an error where it cannot run.
        planned: suites with their files and fingerprints, from ``make_tasks``; the figures are over all of them
            together, and their own answers stay as they are.
        threshold: threshold of the engine's contract, a logit; above it is fake.
        cache: cache of logits; None remembers nothing.
        conditions: conditions to try; None takes the standard ones.
        batch: most pictures at a time.
        on_progress: callback that gets what is done, the number of pictures over all conditions, and their total.

    Raises:
        CacheError: the cache cannot be read or written.
        UnavailableError, OtherGpuError: the engine cannot run here.
    """
    suites = [one.suite for one in planned]
    if conditions is None:
        conditions = standard_conditions(next((suite.size for suite in suites if suite.size != "native"), 256))
    each = sum(len(task.paths) for one in planned for task in one.tasks)
    sets = [(name_set(suite, part, len(suites)), part) for suite in suites for part in suite.sets]
    results = []
    for number, condition in enumerate(conditions):

        def count(_: str, done: int, __: int, before: int = number * each) -> None:
            on_progress("operating envelope", before + done, len(conditions) * each)

        tasks = [
            replace(task, what="operating envelope", reading=_read_after(condition, one.suite.size, batch), found={})
            for one in planned
            for task in one.tasks
        ]
        plan_tasks(tasks, [scorer], cache)
        run_tasks(tasks, [scorer], cache, count)
        results.append(summarise_condition(condition, sets, tasks, scorer.name, threshold))
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

    def read(paths: Sequence[Path], config: ModelConfig | None) -> Iterator[ImageBatch]:
        return read_batches(paths, size, batch=batch, config=config, to_source=to_source)

    changed = {"condition": [condition.name, condition.what], "encoders": describe_encoders()}
    return Reading(values={**published.values, **changed}, read=read)


def name_set(suite: Suite, part: TestSet, suites: int) -> str:
    """Name of a test set; suites have sets of the same names, so that of several each says its suite.

    Args:
        suite: suite that the set is of.
        part: test set.
        suites: number of suites.
    """
    return part.name if suites == 1 else f"{suite.name}/{part.name}"


def summarise_condition(
    condition: Condition, sets: Sequence[tuple[str, TestSet]], tasks: Sequence[Task], scorer: str, threshold: float
) -> ConditionResult:
    """Figures of an engine after a condition.

    Args:
        condition: condition that the pictures were put under.
        sets: test sets with their names.
        tasks: tasks that were run, one a test set.
        scorer: name of the engine's scorer.
        threshold: logit above which a picture is fake.
    """
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
