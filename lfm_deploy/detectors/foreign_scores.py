"""Scores of a foreign detector through the cache: what was judged before is not read again."""

from collections.abc import Callable, Sequence
from pathlib import Path

from lfm_deploy.detectors.foreign import ForeignDetector
from lfm_deploy.scoring.score_cache import ScoreCache, scorer_key


def score_cached(
    detector: ForeignDetector,
    paths: Sequence[Path],
    picture_sha256s: Sequence[str | None],
    cache: ScoreCache | None,
    *,
    batch: int = 32,
    on_progress: Callable[[int], None] = lambda _: None,
) -> tuple[list[float | str], int]:
    """A logit, or the reason why there is none, for each picture.

    Each batch is in the cache before the next one begins, so that a killed run costs what it had not finished.

    Args:
        detector: opened.
        paths: of the pictures.
        picture_sha256s: hex digests of these files; None for one that is not to be kept.
        cache: of scores; None for none.
        batch: pictures at a time.
        on_progress: called with how many of ``paths`` are done.

    Returns:
        For each path a logit, above 0 is fake, or a reason; and how many logits came from the cache.

    Raises:
        DetectorError: as of ``ForeignDetector.score``.
    """
    key = scorer_key(**detector.fingerprint())
    known = cache.find(key, (sha256 for sha256 in picture_sha256s if sha256)) if cache else {}
    found: list[float | str | None] = [known.get(sha256) if sha256 else None for sha256 in picture_sha256s]
    missing = [index for index, value in enumerate(found) if value is None]
    from_cache = sum(isinstance(value, float) for value in found)
    done = len(paths) - len(missing)
    on_progress(done)
    for group in detector.score_groups([paths[index] for index in missing], batch=batch):
        fresh: dict[str, float | str] = {}
        for offset, logit in enumerate(group.logits.tolist()):
            index = missing[group.start + offset]
            value = found[index] = group.reasons.get(group.start + offset, logit)
            if sha256 := picture_sha256s[index]:
                fresh[sha256] = value
        if cache:
            cache.add(key, fresh)
        done += len(group.logits)
        on_progress(done)
    return [value for value in found if value is not None], from_cache
