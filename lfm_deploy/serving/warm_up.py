"""Before it is ready, a service gives the golden pictures the logits that the checkpoint gave them."""

import itertools

from lfm_deploy.deployment.golden import Golden, check_logit, read_golden
from lfm_deploy.engine_info import read_descent
from lfm_deploy.errors import ArtifactError, ContractError, GateError
from lfm_deploy.prediction.judges import Judge
from lfm_deploy.serving.verdicts import VerdictDesk
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.workdir import Workdir


def find_golden(judge: Judge) -> Golden:
    """The golden pictures beside an engine.

    Args:
        judge: engine with its settings.

    Raises:
        ArtifactError: there are none, or those of another checkpoint.
        ContractError: the archive holds logits of pictures of another size.
    """
    path = Workdir(judge.path.parent).golden
    golden = read_golden(path)
    origin = read_descent(judge.path)[0] or sha256_of_file(judge.path)
    if origin != golden.checkpoint_sha256:
        raise ArtifactError(
            f"{path}: was made from another checkpoint than {judge.path}; copy the one that belongs to it, or run "
            "'lfm-deploy export' again"
        )
    if golden.size != judge.size:
        raise ContractError(
            f"{path}: holds logits of pictures at size {golden.size}, and {judge.path} takes {judge.size}; "
            "run 'lfm-deploy export' and build again"
        )
    return golden


async def warm_up(desk: VerdictDesk, golden: Golden) -> None:
    """Judge golden pictures through the whole service, alone and as the largest batch.

    Args:
        desk: desk that gives the verdicts; its batches are running.
        golden: pictures with the checkpoint's logits.

    Raises:
        GateError: a logit is not the stored one.
    """
    usual, desk.batcher.delay_s = desk.batcher.delay_s, 0.0  # nobody else comes
    where = f"{desk.judge.path} ({desk.judge.engine.name})"
    largest = min(desk.judge.batch, desk.settings.max_queue)
    rounds = [[picture] for picture in golden.pictures]
    rounds.append(list(itertools.islice(itertools.cycle(golden.pictures), largest)))
    for pictures in rounds:
        verdicts = await desk.judge_files([(picture.name, picture.content) for picture in pictures])
        for picture, verdict in zip(pictures, verdicts, strict=True):
            if verdict.row.logit is None:
                raise GateError(f"{where}: cannot judge the golden picture {picture.name}: {verdict.row.error}")
            check_logit(picture, verdict.row.logit, str(desk.judge.engine.precision), where)
    desk.batcher.delay_s = usual
