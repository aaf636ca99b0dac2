"""``threshold``: score pictures, choose the threshold on them, and write it into every artifact of a workdir."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.contract import Contract, SizePolicy, ThresholdOrigin, check_contract
from lfm_deploy.deployment.lineup import find_candidates
from lfm_deploy.errors import ArtifactError
from lfm_deploy.metrics.estimate import CONFIDENCE
from lfm_deploy.pictures.images import SkippedImage
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.scoring.score_cache import ScoreCache
from lfm_deploy.scoring.scorers import plan_tasks, published_reading, run_tasks
from lfm_deploy.scoring.suite_scores import SuiteTasks, collect_scores, make_scorer, make_tasks
from lfm_deploy.suites import load_suites
from lfm_deploy.thresholds.choice import Claim, ThresholdChoice, choose
from lfm_deploy.thresholds.stamping import Stamped, stamp_workdir
from lfm_deploy.thresholds.threshold_values import describe_choice
from lfm_deploy.workdir import Workdir


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenThreshold:
    """What was chosen, and where it was written.

    Attributes:
        choice: threshold with its figures.
        origin: pictures and rates that it was chosen by, as artifacts have it.
        engine: file name of the graph that scored the pictures.
        skipped: pictures that could not be judged.
        stamped: files that have the threshold now; None where nothing was to be written.
    """

    choice: ThresholdChoice
    origin: ThresholdOrigin
    engine: str
    skipped: tuple[SkippedImage, ...]
    stamped: Stamped | None


def threshold(
    pictures: Path | str,
    rate: float,
    *,
    workdir: Workdir | Path | str = "deploy",
    miss_rate: float | None = None,
    each_group: bool = False,
    size: SizePolicy | None = None,
    data: Path | str | None = None,
    batch: int = 32,
    write: bool = True,
    on_message: Callable[[str], None] = lambda _: None,
    on_progress: Progress = ignore_progress,
) -> ChosenThreshold:
    """Choose the lowest threshold that keeps false accusations below a rate, and write it into a workdir.

    The FP32 graph scores the pictures in ONNX Runtime; it holds its gate against the checkpoint, and its logits come
    from the cache where they are known.

    Args:
        pictures: folder with ``0_real``, and ``1_fake`` where there are fakes; a list, or the name of a suite.
        rate: share of real pictures that may be called fake, a fraction.
        workdir: folder of the deployment, or its path.
        miss_rate: share of fakes that may be called real; between the two thresholds there is no verdict. None is no
            band.
        each_group: whether the rates are kept in each test set (or category), instead of in all pictures together.
        size: size policy of a folder or list of one's own; None is that of the graph.
        data: folder of the published suites.
        batch: most pictures that are judged at a time.
        write: whether the threshold is written into the artifacts of the workdir.
        on_message: function that is given a line of text when another process holds the workdir.
        on_progress: function that is given the name of a step, how much of it is done, and of how much.

    Raises:
        ArtifactError: nothing was exported here, or an artifact is damaged, stale or foreign.
        ConfigError: a rate is not between 0 and 1.
        ContractError: the graph was made for other pictures than those of the suite.
        MetricError: the pictures are too few for the claim, or a logit is no finite number.
        SuiteError: there is no real picture, or no fake where the band needs one.
    """
    claim = Claim(rate=rate, miss_rate=miss_rate, each_group=each_group)
    folder = workdir if isinstance(workdir, Workdir) else Workdir(Path(workdir))
    graph = folder.graph(Precision.FP32)
    chosen = [one for one in find_candidates(folder, "cpu") if one.path == graph]
    if not chosen:
        raise ArtifactError(f"{graph}: no such graph; make it with 'lfm-deploy export CHECKPOINT.pth'")
    info = read_graph_info(graph)
    own_size = size if size is not None or info.contract.size in ("native", 256) else info.contract.size
    suites = load_suites(pictures, data, size=own_size, both_classes=False)
    for suite in suites:
        check_contract(info.contract, Contract(size=suite.size), str(graph))
    with ExitStack() as stack:
        scorer = make_scorer(chosen[0], required=True)
        stack.callback(scorer.close)
        cache = stack.enter_context(ScoreCache(folder.score_cache, on_message))
        planned = [make_tasks(suite, published_reading(suite.size, batch), on_progress) for suite in suites]
        tasks = [task for one in planned for task in one.tasks]
        plan_tasks(tasks, [scorer], cache)
        run_tasks(tasks, [scorer], cache, on_progress)
    collected = [collect_scores(one) for one in planned]
    sets = [part for scores, _ in collected for part in scores[scorer.name]]
    choice = choose(sets, claim)
    origin = _describe_origin(str(pictures), info.checkpoint_sha256, planned, choice)
    stamped = None
    if write:
        values = describe_choice(choice, origin, graph.name)
        stamped = stamp_workdir(folder, choice.threshold, choice.uncertain_above, origin, values, on_message)
    return ChosenThreshold(
        choice=choice,
        origin=origin,
        engine=graph.name,
        skipped=tuple(one for _, skipped in collected for one in skipped),
        stamped=stamped,
    )


def _describe_origin(
    pictures: str, checkpoint_sha256: str, planned: Sequence[SuiteTasks], choice: ThresholdChoice
) -> ThresholdOrigin:
    real, fake = choice.all.real_called_fake, choice.all.fake_called_fake
    return ThresholdOrigin(
        checkpoint_sha256=checkpoint_sha256,
        pictures=pictures,
        pictures_sha256=_hash_pictures(planned),
        real=0 if real is None else real.pictures,
        fake=0 if fake is None else fake.pictures,
        rate=choice.claim.rate,
        confidence=CONFIDENCE,
        miss_rate=choice.claim.miss_rate,
        each_group=choice.claim.each_group,
        at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _hash_pictures(planned: Sequence[SuiteTasks]) -> str:
    """SHA-256 over contents and labels, whatever files are called and in whatever order they come."""
    lines = sorted(
        f"{image.label} {'' if one is None else one.sha256}\n"
        for suite in planned
        for part, task in zip(suite.suite.sets, suite.tasks, strict=True)
        for image, one in zip(part.images, task.prints, strict=True)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()
