"""From the bytes of JPEG files to verdicts on a GPU: the card's JPEG hardware beside the host's decoders.

Part of ``gpu.py``. Files of about 100 KB go through ``predict_groups`` as ``lfm-deploy predict`` does, by each decoder
and number of reading threads; the first run of each warms up. Verdicts of the ways are compared with Pillow's.
"""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from engines.loading import load_engine
from lfm_deploy.errors import DeployError
from lfm_deploy.machine import count_cores
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.pictures.sources import file_source
from lfm_deploy.prediction.judges import Judge, choose_engine_decoder, open_judge
from lfm_deploy.prediction.prediction import predict_groups
from lfm_deploy.workdir import Workdir

TARGET = 8_000
"""Files a second to verdicts that an H100 with 16 cores is to make of JPEG files of 104 KB."""
_DISTINCT, _SIDE, _QUALITY = 64, 640, 85
_BATCHES = (64, 256)
_SECONDS = 2.5
_OPENING_SECONDS = 10.0
_DECODERS = ("pillow", "simplejpeg", "nvimagecodec")
_INPUT_SIDE = 256


@dataclasses.dataclass
class DecodingResults:
    """What was found, by decoder.

    Attributes:
        kilobytes: size of a file on average.
        rates: files a second to verdicts, by batch and number of threads.
        flips: decisions that differ from those with Pillow.
        mean_error: mean absolute difference of logits from those with Pillow.
        on_card: whether pictures were decoded and resized on the card.
        left_out: why a decoder was not measured.
    """

    kilobytes: float = 0.0
    rates: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    flips: dict[str, int] = dataclasses.field(default_factory=dict)
    mean_error: dict[str, float] = dataclasses.field(default_factory=dict)
    on_card: dict[str, bool] = dataclasses.field(default_factory=dict)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)


def measure_decoding(
    graph: Path, folder: Path, pictures: Path | None, device: str = "cuda", seconds: float = float("inf")
) -> DecodingResults:
    """Rates and verdicts by decoder.

    Args:
        graph: FP16 graph of 256x256 pixels.
        folder: where files are written that the measurement makes.
        pictures: folder of JPEG files; None makes some.
        device: device of the engine.
        seconds: time for all of it; rates are measured over less time each where there is little.
    """
    paths = sorted(pictures.rglob("*.jp*g")) if pictures is not None else make_files(folder)
    results = DecodingResults(kilobytes=sum(path.stat().st_size for path in paths) / len(paths) / 1000)
    expected: Any = None
    runs = 1.25 * len(_DECODERS) * len(_BATCHES) * len(choose_threads())
    each = min(_SECONDS, max((seconds - _OPENING_SECONDS) / runs, _SECONDS / 10))
    for name in _DECODERS:
        try:
            judge = open_with(graph, device, name)
        except DeployError as error:
            results.left_out[name] = str(error)
            continue
        results.on_card[name] = judge.card is not None
        try:
            logits = judge_all(judge, paths)
            expected = logits if expected is None else expected
            both = np.isfinite(logits) & np.isfinite(expected)
            results.flips[name] = int(((logits > 0) != (expected > 0))[both].sum())
            results.mean_error[name] = float(np.abs(logits - expected)[both].mean())
            results.rates[name] = measure_rates(judge, paths, each)
        except Exception as error:  # one decoder's failure is a result, not the end of the run
            results.left_out[name] = f"not run: {type(error).__name__}: {str(error)[:200]}"
        finally:
            judge.engine.close()
        click.echo(f"{name}: {results.rates.get(name, results.left_out.get(name))}", err=True)
    return results


def open_with(graph: Path, device: str, decoder: str) -> Judge:
    """A judge with a decoder; on a GPU the fused engine, which reads pixels where they lie."""
    if device == "cpu":
        return open_judge(Workdir(graph.parent), engine=graph, device=device, decoder=decoder)
    engine = load_engine(graph, device=device, runtime="fused")
    chosen, card = choose_engine_decoder(engine, _INPUT_SIDE, decoder, lambda line: click.echo(line, err=True))
    return Judge(
        engine=engine,
        path=graph,
        size=_INPUT_SIDE,
        threshold=0.0,
        uncertain_above=None,
        batch=_BATCHES[0],
        decoder=chosen,
        card=card,
    )


def make_files(folder: Path) -> list[Path]:
    """JPEG files of about 100 KB, all of which differ."""
    paths = []
    for index, tile in enumerate(sample_tiles(256, 256, _DISTINCT)):
        path = folder / f"{index:03}.jpg"
        large = Image.fromarray(tile).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        noise = np.random.default_rng(index).normal(0, 5, (_SIDE, _SIDE, 1))  # the grain of a camera
        grained = np.clip(np.asarray(large) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(grained).save(path, quality=_QUALITY)
        paths.append(path)
    return paths


def judge_all(judge: Judge, paths: list[Path]) -> Any:
    """Logits of files, float32 ``(N,)``; NaN for one that cannot be judged."""
    rows = [row for group in predict_groups(judge, map(file_source, paths)) for row in group]
    return np.array([np.nan if row.logit is None else row.logit for row in rows], np.float32)


def choose_threads() -> list[int]:
    """Numbers of reading threads that are measured."""
    cores = count_cores()
    return sorted({max(cores // 4, 1), max(cores // 2, 1), cores})


def measure_rates(judge: Judge, paths: list[Path], seconds: float) -> dict[str, float]:
    """Files a second by batch and threads, each over some seconds."""
    found = {}
    for batch in _BATCHES:
        sized = dataclasses.replace(judge, batch=batch)
        for threads in choose_threads():
            run_for(sized, paths, threads, seconds / 4)
            found[f"batch {batch}, {threads} threads"] = round(run_for(sized, paths, threads, seconds), 1)
    return found


def run_for(judge: Judge, paths: list[Path], threads: int, seconds: float) -> float:
    """Files a second to verdicts, from the first one that is asked for to the last verdict."""
    begun = time.perf_counter()

    def endless() -> Iterator[Path]:
        while True:
            for path in paths:
                if time.perf_counter() - begun > seconds:
                    return
                yield path

    judged = sum(len(rows) for rows in predict_groups(judge, map(file_source, endless()), workers=threads))
    return judged / (time.perf_counter() - begun)


def write_decoding(results: DecodingResults) -> list[str]:
    """The table in Markdown, and whether the target is met."""
    columns = sorted({column for rates in results.rates.values() for column in rates}, key=_numbers)
    lines = [
        f"| JPEG files of {results.kilobytes:.0f} KB to verdicts, files/s | flips | mean abs Δlogit | "
        + " | ".join(columns)
        + " |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for name, rates in results.rates.items():
        cells = (f"{rates[column]:,.0f}" if column in rates else "" for column in columns)
        lines.append(f"| {name} | {results.flips[name]} | {results.mean_error[name]:.2g} | " + " | ".join(cells) + " |")
    best = max(results.rates.get("nvimagecodec", {}).values(), default=None)
    if best is not None and results.on_card["nvimagecodec"]:
        lines += ["", f"Target of {TARGET:,} a second with the card's JPEG hardware: {best:,.0f}."]
    lines += ["", *(f"- {name}: {why}" for name, why in results.left_out.items())]
    return lines


def _numbers(column: str) -> list[int]:
    return [int(word) for word in column.replace(",", "").split() if word.isdigit()]
