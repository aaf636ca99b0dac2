"""Verdicts on pictures: an engine over the groups that the picture pipeline decodes."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lfm_deploy.artifacts import Precision
from lfm_deploy.errors import ImageError, InputError
from lfm_deploy.pictures.decoding import Source
from lfm_deploy.pictures.pipeline import PictureGroup, lfm_decoder, read_groups
from lfm_deploy.pictures.sources import describe_nothing, find_sources
from lfm_deploy.prediction.judges import Judge, open_judge
from lfm_deploy.prediction.notes import Background, make_look
from lfm_deploy.prediction.rows import Prediction, judge_logit
from lfm_deploy.workdir import Workdir

if TYPE_CHECKING:
    from lfm_deploy.prediction.overlays import OverlayWriter  # loads PyTorch, which verdicts alone do without


def predict(
    paths: Sequence[Path | str] | Path | str,
    *,
    engine: Path | str | None = None,
    workdir: Workdir | Path | str = "deploy",
    precision: Precision | str | None = None,
    device: str | None = None,
    threshold: float | None = None,
    batch: int | None = None,
    decoder: str | None = None,
    evidence: Path | None = None,
    provenance: bool = False,
    strict: bool = False,
) -> Iterator[Prediction]:
    """Verdicts on pictures in their order, each as soon as its batch is judged; memory does not grow with the list.

    Args:
        paths: files, folders, shards, quoted patterns and lists (``@list.txt``) of pictures, on this machine or in a
            store (``s3://``, ``gs://``).
        engine: path of the file to run; None takes the best one of the workdir that runs here.
        workdir: folder of the deployment, or its path.
        precision: precision of the workdir's engine: ``"fp32"``, ``"fp16"``, ``"bf16"`` or ``"int8"``; None is FP32.
        device: device to run on: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; None chooses.
        threshold: logit above which a picture is fake, without a band of uncertainty; None is the contract's, with its
            band.
        batch: number of pictures in a batch at most; None is 8 on a CPU and 64 on a GPU.
        decoder: decoder of JPEG files: ``"pillow"``, ``"simplejpeg"`` or ``"nvimagecodec"``; None takes the fastest
            whose pixels are the contract's.
        evidence: folder for overlays, one PNG a picture, which show where each verdict came from; None draws none.
        provenance: whether to read what pictures state of their origin: C2PA, IPTC's source type, generators.
        strict: whether a picture that cannot be judged is an error; False gives it a row with the reason.

    Raises:
        ArtifactError: no engine is there, or it is damaged or foreign.
        DecoderError: pictures are decoded or resized to other pixels on this machine than the contract's.
        ImageError: a picture cannot be judged, and ``strict`` is set.
        InputError: there is nothing to read.
        StoreError: a store refuses, or is out of reach.
        UnavailableError: the engine cannot run on this machine, or the library of a store is missing.
    """
    named = [str(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    folder = workdir if isinstance(workdir, Workdir) else Workdir(Path(workdir))
    sources = require_some(find_sources(named), named)
    judge = open_judge(
        folder,
        engine=engine,
        precision=precision,
        device=device,
        threshold=threshold,
        batch=batch,
        decoder=decoder,
        provenance=provenance,
    )
    try:
        overlays = None
        if evidence is not None:
            from lfm_deploy.prediction.overlays import OverlayWriter

            overlays = OverlayWriter(evidence, folder, judge.engine, judge.path)
        for group in predict_groups(judge, sources, overlays=overlays, strict=strict):
            yield from group
    finally:
        judge.engine.close()


def require_some(sources: Iterator[Source], named: Sequence[str]) -> Iterator[Source]:
    """The same sources, after making sure that there is one.

    Raises:
        InputError: there is no picture.
    """
    first = next(sources, None)
    if first is None:
        raise InputError(describe_nothing(named))
    return itertools.chain([first], sources)


def predict_groups(
    judge: Judge,
    sources: Iterable[Source],
    *,
    start: int = 0,
    overlays: "OverlayWriter | None" = None,
    strict: bool = False,
    workers: int | None = None,
) -> Iterator[list[Prediction]]:
    """Verdicts in groups that depend on the list alone, so that a run that goes on behind a group repeats another.

    Args:
        judge: engine with its settings, from ``open_judge``.
        sources: pictures to read.
        start: index in the whole list of the first picture.
        overlays: writer of overlays; None draws none.
        strict: whether a picture that cannot be judged is an error; the rows before it come out first.
        workers: decoding threads; None is one for each core.

    Raises:
        ImageError: a picture cannot be judged, and ``strict`` is set.
    """
    for group in _read_groups(judge, sources, workers, start, on_host=overlays is not None):
        rows = judge_group(judge, group)
        if strict:
            bad = next((position for position, row in enumerate(rows) if row.error is not None), None)
            if bad is not None:
                yield rows[:bad]
                raise ImageError(f"{rows[bad].path}: {rows[bad].error} (picture {rows[bad].index + 1}; --strict)")
        if overlays is not None:
            for offsets, images in group.runs:
                overlays.write([rows[offset] for offset in offsets], images)
        yield rows


def _read_groups(
    judge: Judge, sources: Iterable[Source], workers: int | None, start: int, *, on_host: bool
) -> Iterator[PictureGroup]:
    """Groups from the card, or from the host: drawings of evidence are made from pixels there."""
    look = look_of(judge)
    if judge.card is not None and not on_host:
        return judge.card.read(sources, batch=judge.batch, workers=workers, start=start, look=look)
    return read_groups(
        sources,
        judge.size,
        batch=judge.batch,
        decode=decoder_of(judge),
        workers=workers,
        start=start,
        look=look,
    )


def decoder_of(judge: Judge) -> Callable[[Path | bytes, NDArray[np.uint8] | None], NDArray[np.uint8]]:
    """What decodes pictures on the host for a judge: bytes or path, and where to write, to uint8 ``(H, W, 3)``."""
    jpeg = judge.decoder.jpeg if judge.card is None else judge.card.host
    return lfm_decoder(judge.size, judge.engine.config, jpeg)


def look_of(judge: Judge) -> Callable[[Path | bytes], Background]:
    """What finds the background of a picture for a judge, from its path or its bytes."""
    return make_look(judge.size, judge.proved, provenance=judge.provenance)


def judge_group(judging: Judge, group: PictureGroup) -> list[Prediction]:
    """The rows of a group; whoever gives verdicts, gives them by this function."""
    found: dict[int, np.float32] = {}
    for offsets, images in group.runs:
        logits: NDArray[np.float32] = judging.engine.logits(images)
        found.update(zip(offsets, logits, strict=True))
    return [_judge_one(judging, group, offset, found.get(offset)) for offset in range(len(group.names))]


def _judge_one(judging: Judge, group: PictureGroup, offset: int, logit: np.float32 | None) -> Prediction:
    index, name = group.start + offset, group.names[offset]
    if logit is None:
        row = Prediction(index=index, path=name, error=group.reasons[offset])
    else:
        row = judge_logit(index, name, logit, judging.threshold, uncertain_above=judging.uncertain_above)
    seen: Background = group.looks.get(offset, Background())
    return replace(row, notes=seen.notes, provenance=seen.provenance)
