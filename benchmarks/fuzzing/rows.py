"""Whether the rows of ``lfm-deploy predict`` are right: a verdict for each whole picture, and a word on all others."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fuzzing.trial import Answer, Result

# Batches of other sizes add in another order; the logits of different seeds are further apart.
TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Wanted:
    """A picture of the input.

    Attributes:
        path: name that its row has.
        logits: logits that are right for it; none where it cannot be read.
        whole: whether it is undamaged and in reach, so that it has to have a verdict.
        optional: whether it may be passed over without a word.
    """

    path: str
    logits: tuple[float, ...]
    whole: bool = False
    optional: bool = False


def near(first: float, second: float) -> bool:
    """Whether two logits are the same but for the order of additions."""
    return abs(first - second) <= TOLERANCE * max(1.0, abs(second))


def judge_rows(
    wanted: Sequence[Wanted], threshold: float, *, others: Callable[[float], bool] = lambda _: False
) -> Callable[[Answer], tuple[Result, str]]:
    """A judge of JSON lines.

    Args:
        wanted: pictures of the input.
        threshold: logit above which a picture is fake.
        others: whether a logit under a name that is none of these is right, as where a name is damaged.
    """

    def judge(answer: Answer) -> tuple[Result, str]:
        try:
            rows = [json.loads(line) for line in answer.out.splitlines()]
        except ValueError:
            return Result.WRONG, f"prints no JSON lines: {answer.out[:200]!r}"
        return _judge(rows, wanted, threshold, others, answer)

    return judge


def _judge(
    rows: list[dict[str, Any]],
    wanted: Sequence[Wanted],
    threshold: float,
    others: Callable[[float], bool],
    answer: Answer,
) -> tuple[Result, str]:
    by_path = {one.path: one for one in wanted}
    verdicts: dict[str, int] = {}
    renamed = 0
    for row in rows:
        if row["logit"] is None:
            continue
        if row["verdict"] != ("fake" if row["logit"] > threshold else "real"):
            return Result.WRONG, f"{row['path']}: verdict {row['verdict']} for {row['logit']}"
        one = by_path.get(row["path"])
        if one is not None and any(near(row["logit"], logit) for logit in one.logits):
            verdicts[row["path"]] = verdicts.get(row["path"], 0) + 1
        elif others(row["logit"]):
            renamed += 1
        else:
            right = None if one is None else one.logits
            return Result.WRONG, f"{row['path']}: logit {row['logit']}, right is {right}"
    if twice := [path for path, count in verdicts.items() if count > 1]:
        return Result.WRONG, f"{twice[0]} is judged {verdicts[twice[0]]} times"
    return _judge_missing(rows, wanted, set(verdicts), renamed, answer)


def _judge_missing(
    rows: list[dict[str, Any]], wanted: Sequence[Wanted], verdicts: set[str], renamed: int, answer: Answer
) -> tuple[Result, str]:
    """Whether there is a verdict or a word on each picture, and the exit code fits; ``renamed`` stand for some."""
    errors = {row["path"]: str(row["error"]) for row in rows if row["error"]}
    missing = [one.path for one in wanted if one.whole and one.path not in verdicts]
    if len(missing) > renamed:
        return Result.OMITTED, f"no verdict on {missing[0]}, which is whole: {errors.get(missing[0], 'no row')}"
    silent = [one.path for one in wanted if not one.optional and one.path not in {*verdicts, *errors}]
    said = bool(errors) or "left out" in answer.err
    if len(silent) > renamed and not said:
        return Result.OMITTED, f"not a word on {silent[0]}; exit {answer.code}"
    judged = bool(verdicts) or renamed > 0
    if judged != (answer.code == 0):
        return Result.CODE, f"exit {answer.code} although {'pictures were' if judged else 'nothing was'} judged"
    return (Result.REPORTED if said else Result.RIGHT), ""
