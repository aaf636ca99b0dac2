"""The operating envelope: how an engine decides after what happens to pictures on their way to it."""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from engines.engine import Engine
from engines.loading import load_engine
from lfm_deploy.artifacts import Precision
from lfm_deploy.atomic import sha256_of_file
from lfm_deploy.conditions import Condition, describe_encoders, standard_conditions
from lfm_deploy.contract import Contract, SizePolicy, check_contract
from lfm_deploy.decoding import Source
from lfm_deploy.envelope_figures import ConditionResult, Envelope, SetScores, estimate_suite
from lfm_deploy.errors import ArtifactError, ConfigError
from lfm_deploy.pipeline import read_groups
from lfm_deploy.score_cache import ScoreCache, scorer_key
from lfm_deploy.suites import Suite, TestSet
from lfm_deploy.verification import Candidate, Progress, find_candidates
from lfm_deploy.workdir import Workdir

# Found per picture: its logit, or the reason why there is none.
_Answers = dict[Path, float | str]


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


def open_envelope_engine(candidate: Candidate) -> Engine:
    """Open it on this machine.

    Raises:
        UnavailableError: it cannot run here.
        OtherGpuError: it was built for another GPU.
    """
    return load_engine(candidate.path, device=candidate.device, spin=False, precision=candidate.asked_precision)


def measure_envelope(
    engine: Engine,
    suites: Sequence[Suite],
    *,
    name: str,
    identity: Mapping[str, Any] | None = None,
    cache: ScoreCache | None = None,
    conditions: Sequence[Condition] | None = None,
    batch: int = 32,
    workers: int | None = None,
    on_progress: Progress = lambda *_: None,
) -> Envelope:
    """Judge the pictures of suites after each condition; each batch is kept at once, so that a killed run goes on.

    Args:
        engine: that judges, at its contract's threshold.
        suites: from ``load_suites``; the figures are over all of them together.
        name: of the engine, in the result.
        identity: plain values for JSON, all that a logit depends on besides the picture and how it is read; None
            keeps nothing.
        cache: that remembers logits; None remembers nothing.
        conditions: to try; None takes the standard ones.
        batch: pictures at a time.
        workers: threads that decode, change and resize; None is one for each core.
        on_progress: called with what is done, how many pictures over all conditions, and of how many.
    """
    if conditions is None:
        conditions = standard_conditions(next((suite.size for suite in suites if suite.size != "native"), 256))
    paths = [list(dict.fromkeys(image.path for part in suite.sets for image in part.images)) for suite in suites]
    files = _hash_files(list(dict.fromkeys(itertools.chain(*paths))), workers)
    scoring = _Scoring(engine, identity, cache, batch, workers, files)
    done, total = 0, len(conditions) * sum(map(len, paths))

    def count(judged: int) -> None:
        nonlocal done
        done += judged
        on_progress("operating envelope", done, total)

    results = []
    for condition in conditions:
        found: list[tuple[TestSet, _Answers]] = []
        for suite, pictures in zip(suites, paths, strict=True):
            answers = scoring.score(condition, suite.size, pictures, count)
            found += [(_named(suite, part, len(suites)), answers) for part in suite.sets]
        results.append(_summarise(condition, found, engine.contract.threshold))
    return Envelope(engine=name, suites=tuple(suite.name for suite in suites), conditions=tuple(results))


@dataclass(frozen=True, slots=True)
class _File:
    """A picture file by its content: its hash, or the reason why it has none."""

    sha256: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Scoring:
    """What stays the same over all conditions."""

    engine: Engine
    identity: Mapping[str, Any] | None
    cache: ScoreCache | None
    batch: int
    workers: int | None
    files: Mapping[Path, _File]

    def score(
        self, condition: Condition, size: SizePolicy, paths: Sequence[Path], on_judged: Callable[[int], None]
    ) -> _Answers:
        """Answers for pictures after a condition; files of the same content are judged once."""
        cache = None if self.identity is None else self.cache
        key = scorer_key(scorer=dict(self.identity or {}), reading=_describe_reading(size, condition))
        hashes = {path: sha256 for path in paths if (sha256 := self.files[path].sha256) is not None}
        known = {} if cache is None else cache.find(key, hashes.values())
        missing = {sha256: path for path, sha256 in hashes.items() if sha256 not in known}
        on_judged(len(paths) - len(missing))
        order = list(missing)
        sources = [Source(str(path), partial(condition.load, path)) for path in missing.values()]
        for group in read_groups(sources, size, batch=self.batch, config=self.engine.config, workers=self.workers):
            judged: dict[str, float | str] = {order[group.start + at]: why for at, why in group.reasons.items()}
            for offsets, images in group.runs:
                logits = self.engine.logits(images).tolist()
                judged |= zip((order[group.start + offset] for offset in offsets), logits, strict=True)
            if cache is not None:
                cache.add(key, judged)
            known |= judged
            on_judged(len(group.names))
        return {path: known[hashes[path]] if path in hashes else self.files[path].reason for path in paths}


def _describe_reading(size: SizePolicy, condition: Condition) -> dict[str, Any]:
    """All that the engine's input depends on besides the file."""
    reading = {"contract": Contract(size=size).as_dict(), "pillow": PIL.__version__}
    if condition.change is None:
        return reading
    return reading | {"condition": [condition.name, condition.what], "encoders": describe_encoders()}


def _hash_files(paths: Sequence[Path], workers: int | None) -> dict[Path, _File]:
    with ThreadPoolExecutor(workers, thread_name_prefix="hash-file") as pool:
        return dict(zip(paths, pool.map(_hash_file, paths), strict=True))


def _hash_file(path: Path) -> _File:
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            return _File(None, "cannot be read: not a regular file")
        return _File(sha256_of_file(path))
    except FileNotFoundError:
        return _File(None, "no such file")
    except OSError as error:
        return _File(None, f"cannot be read: {error.strerror}")


def _named(suite: Suite, part: TestSet, suites: int) -> TestSet:
    """The test set; suites have sets of the same names, so that of several each says its suite."""
    return part if suites == 1 else replace(part, name=f"{suite.name}/{part.name}")


def _summarise(condition: Condition, found: Sequence[tuple[TestSet, _Answers]], threshold: float) -> ConditionResult:
    reasons: Counter[str] = Counter()
    scores = []
    for part, answers in found:
        judged = [(image.label, answers[image.path]) for image in part.images]
        kept = [(label, logit) for label, logit in judged if not isinstance(logit, str) and np.isfinite(logit)]
        reasons.update(
            answer if isinstance(answer, str) else "its logit is no finite number"
            for _, answer in judged
            if isinstance(answer, str) or not np.isfinite(answer)
        )
        labels = np.array([label for label, _ in kept], dtype=np.int64)
        scores.append(
            SetScores(name=part.name, labels=labels, logits=np.array([logit for _, logit in kept], dtype=np.float32))
        )
    return ConditionResult(
        condition=condition,
        pictures=sum(len(part.labels) for part in scores),
        reasons=dict(reasons.most_common()),
        figures=estimate_suite(scores, threshold),
    )
