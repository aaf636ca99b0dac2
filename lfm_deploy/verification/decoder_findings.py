"""A decoder judged like an engine: its pixels against Pillow's on every picture, and what the difference decides.

Pictures whose pixels are equal keep the reference's logits; the others are judged again, by the reference. A shift of
all levels leaves NPR, and so the logits, nearly alone: that is why pixels have gates of their own.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.card_choice import make_reader
from engines.devices import parse_device
from lfm_deploy.config import ModelConfig
from lfm_deploy.contract import SizePolicy
from lfm_deploy.metrics.gate import Gate, judge_exactly
from lfm_deploy.pictures.decoders import PictureDecoder, choose_decoder, find_jpeg_differences, open_decoder
from lfm_deploy.pictures.nvimagecodec_decoder import NvImageCodecDecoder
from lfm_deploy.pictures.pipeline import PictureGroup, read_groups
from lfm_deploy.pictures.sources import file_source
from lfm_deploy.progress import Progress
from lfm_deploy.scoring.scorers import Scorer, Task
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.scoring.suite_scores import SuiteTasks, select_scores
from lfm_deploy.verification.comparison import SuiteResult
from lfm_deploy.verification.gates import CROSSED

# What an H100's JPEG hardware was measured to stay within, on 229 photographs; another decoder in software gives 2.6 %.
_LEVELS, _SHARE_PERCENT = 1, 0.1
_AT_ONCE = 64

Pixels = dict[int, NDArray[np.uint8] | str]
"""Pixels uint8 ``(H, W, 3)``, or the reason why there are none, by index."""


@dataclass(slots=True)
class PixelFindings:
    """How a decoder's pixels differ from Pillow's, at the size at which pictures are judged.

    Attributes:
        pictures: number of pictures that were compared.
        differing: number of pictures with any other pixel.
        values: number of values that were compared, three a pixel.
        values_differing: number of values that differ.
        largest: largest difference, in levels.
        otherwise: number of pictures that only one of both can read, or that each refuses for another reason.
        samples: names of the pictures of the self-test that the decoder gives other pixels.
    """

    pictures: int = 0
    differing: int = 0
    values: int = 0
    values_differing: int = 0
    largest: int = 0
    otherwise: int = 0
    samples: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Share of the values that differ, a fraction."""
        return self.values_differing / self.values if self.values else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderFindings:
    """What was found of a decoder over suites.

    Attributes:
        decoder: decoder that was judged.
        place: place where the decoder ran, such as ``"the CPU"``.
        scores: names of the test sets with the scores on each, by the name of a suite.
        pixels: differences of its pixels from Pillow's, by the name of a suite.
    """

    decoder: PictureDecoder
    place: str
    scores: dict[str, list[tuple[str, Scores]]]
    pixels: dict[str, PixelFindings]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedDecoder:
    """A decoder that is to be judged, whatever its self-test says.

    Attributes:
        decoder: decoder to judge.
        device: ``"cpu"``, or the card that it decodes on.
    """

    decoder: PictureDecoder
    device: str = "cpu"


def open_judged(name: str, device: str) -> JudgedDecoder:
    """Open a decoder to judge it: nvimagecodec on the card of a GPU's device, else all of them on the CPU.

    Args:
        name: one of ``DECODERS``.
        device: device of the verification.

    Raises:
        ConfigError: there is no decoder of this name.
        UnavailableError: the decoder is not installed, or cannot run here.
    """
    first = device.split(",")[0]
    kind, index = parse_device(first)
    if name == "nvimagecodec" and kind == "cuda":
        return JudgedDecoder(decoder=open_decoder(name, index), device=f"cuda:{index}")
    return JudgedDecoder(decoder=open_decoder(name))


def measure_decoder(
    judged: JudgedDecoder, planned: Sequence[SuiteTasks], reference: Scorer, on_progress: Progress
) -> DecoderFindings:
    """Decode the pictures of suites in both ways, and judge again those whose pixels differ.

    Args:
        judged: decoder to judge.
        planned: suites that the reference has judged with Pillow.
        reference: scorer of the reference.
        on_progress: callback that gets what is done, the number of pictures, and their total.

    Raises:
        UnavailableError: the reference cannot run here.
    """
    decoder = judged.decoder
    samples = tuple(find_jpeg_differences(decoder))
    scores: dict[str, list[tuple[str, Scores]]] = {}
    found: dict[str, PixelFindings] = {}
    total, done = sum(len(task.paths) for one in planned for task in one.tasks), 0
    for one in planned:
        pixels = found[one.suite.name] = PixelFindings(samples=samples)
        config = reference.source.config or ModelConfig()
        read_theirs = _reading(judged, one.suite.size, config)
        read_ours = _reading(JudgedDecoder(decoder=PictureDecoder()), one.suite.size, config)
        for part, task in zip(one.suite.sets, one.tasks, strict=True):
            logits = list(task.found[reference.name])
            for start in range(0, len(task.paths), _AT_ONCE):
                paths = task.paths[start : start + _AT_ONCE]
                changed = _compare(read_ours(paths), read_theirs(paths), pixels)
                for index, again in changed.items():
                    # One at a time: few differ, and sizes may.
                    logits[start + index] = float(reference.source.logits(again[None])[0])
                done += len(paths)
                on_progress(f"decoding by {decoder.name}", done, total)
            kept = [index for index in range(len(task.paths)) if index not in task.reasons]
            scores.setdefault(one.suite.name, []).append(
                (part.name, select_scores(part, _answered(task, reference.name, logits), reference.name, kept))
            )
    place = "the CPU" if judged.device == "cpu" else judged.device
    return DecoderFindings(decoder=decoder, place=place, scores=scores, pixels=found)


def judge_decoder(pixels: PixelFindings, result: SuiteResult) -> tuple[Gate, ...]:
    """The gates of a decoder over one suite: its pixels, its flips, and whom it can read.

    Args:
        pixels: differences of the decoder's pixels from Pillow's.
        result: comparison of its logits with the reference's.
    """
    name = result.suite
    flips = None if result.against is None else result.against.flips
    crossed = None if result.against is None else result.against.crossed
    band = [] if crossed is None else [judge_exactly(name, CROSSED, 100 * crossed.value, 0)]
    return (
        judge_exactly(name, "largest difference from Pillow's pixels in levels", pixels.largest, _LEVELS),
        judge_exactly(name, "values that differ from Pillow's in %", 100 * pixels.share, _SHARE_PERCENT),
        judge_exactly(name, "pictures that are read or refused otherwise than by Pillow", pixels.otherwise, 0),
        judge_exactly(name, "flipped decisions", flips, 0),
        *band,
    )


def _reading(judged: JudgedDecoder, size: SizePolicy, config: ModelConfig) -> Callable[[Sequence[Path]], Pixels]:
    """What decodes files to pixels in host memory."""
    jpeg = judged.decoder.jpeg
    if judged.device != "cpu" and size != "native" and isinstance(jpeg, NvImageCodecDecoder):
        reader = make_reader(jpeg, choose_decoder(), size, config, judged.device)
        # In one thread, which keeps its decoder.
        return lambda paths: _collect(
            map(
                reader.finish,
                read_groups(map(file_source, paths), size, batch=_AT_ONCE, config=config, decode=reader.prepare),
            )
        )
    return lambda paths: _collect(read_groups(map(file_source, paths), size, batch=_AT_ONCE, config=config, jpeg=jpeg))


def _collect(groups: Iterable[PictureGroup]) -> Pixels:
    found: Pixels = {}
    for group in groups:
        found |= {group.start + offset: reason for offset, reason in group.reasons.items()}
        for offsets, pixels in group.runs:
            held = pixels if isinstance(pixels, np.ndarray) else pixels.cpu().numpy()
            found |= {group.start + offset: one for offset, one in zip(offsets, held, strict=True)}
    return found


def _compare(ours: Pixels, theirs: Pixels, into: PixelFindings) -> dict[int, NDArray[np.uint8]]:
    """Count differences; the pixels of those pictures that have to be judged again."""
    changed: dict[int, NDArray[np.uint8]] = {}
    for index, expected in ours.items():
        found = theirs[index]
        if isinstance(expected, str) or isinstance(found, str) or expected.shape != found.shape:
            into.otherwise += not (isinstance(expected, str) and isinstance(found, str) and expected == found)
            continue
        into.pictures += 1
        into.values += expected.size
        if np.array_equal(expected, found):
            continue
        away = np.abs(expected.astype(np.int16) - found)
        into.differing += 1
        into.values_differing += int((away > 0).sum())
        into.largest = max(into.largest, int(away.max()))
        changed[index] = found
    return changed


def _answered(task: Task, scorer: str, logits: list[float | str | None]) -> Task:
    return Task(what=task.what, paths=task.paths, prints=task.prints, reading=task.reading, found={scorer: logits})
