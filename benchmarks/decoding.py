"""From files to the pixels that an engine reads: how long reading, decoding and resizing take, decoder by decoder.

    python benchmarks/decoding.py
    python benchmarks/decoding.py --sides 512 --pictures photos/
    python benchmarks/decoding.py --memory

One thread, and the processor's time instead of the clock's, so that figures are those of one core and other programs
disturb them little. Files are squares cut from photographs, PNG and JPEG of quality 90 with halved chroma; each goes to
256x256. Decoders take turns file by file, another one first each time, and the best of the rounds counts. With
--memory, the peak of a process that decodes 500 and 5,000 files instead.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from lfm_deploy.cli.console import make_console
from lfm_deploy.environment import describe_environment
from lfm_deploy.errors import UnavailableError
from lfm_deploy.pictures.decoders import DECODERS, PictureDecoder, check_proved, open_decoder
from lfm_deploy.pictures.images import find_images
from lfm_deploy.pictures.jpegs import decode_opened
from lfm_deploy.pictures.opening import decode_rgb, open_picture, open_rgb
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.pictures.resizing import resize_picture
from lfm_deploy.report.tables import make_table

SIDE = 256
_COUNTS = (500, 5_000)
STEPS = ("reading", "decoding", "resizing")


@click.command()
@click.option("--sides", default="256,512,1024", show_default=True, help="Sides of the square files in pixels.")
@click.option("--files", default=12, show_default=True, help="Files of each kind.")
@click.option("--rounds", default=7, show_default=True)
@click.option("--memory", is_flag=True, help="Peak memory over 500 and 5,000 files, instead of rates.")
@click.option("--pictures", type=click.Path(exists=True, path_type=Path), help="Photographs to make the files of.")
def main(sides: str, files: int, rounds: int, memory: bool, pictures: Path | None) -> None:
    """Measure and print."""
    if memory:
        print_memory(files)
        return
    decoders = []
    for name in DECODERS:
        try:
            decoders.append(open_decoder(name))
            check_proved(decoders[-1])
        except UnavailableError as error:
            click.echo(f"{name}: {error}", err=True)
    console = make_console()
    environment = describe_environment()
    console.print(f"{environment['processor']}; Pillow {environment['libraries']['pillow']}; one thread")
    table = make_table("files a second and core", "file", "KB", "decoder")
    for step in STEPS:
        table.add_column(f"{step} µs", justify="right")
    table.add_column("files/s", justify="right")
    with tempfile.TemporaryDirectory(prefix="lfm-decoding-") as temporary:
        for form in ("JPEG", "PNG"):
            for side in map(int, sides.split(",")):
                paths = make_files(Path(temporary), form, side, files, pictures)
                kilobytes = sum(path.stat().st_size for path in paths) / len(paths) / 1000
                # A decoder of JPEG alone leaves PNG to Pillow.
                chosen = decoders if form == "JPEG" else decoders[:1]
                for name, spent in measure(paths, chosen, rounds).items():
                    cells = (f"{microseconds:,.0f}" for microseconds in spent)
                    rate = f"{1e6 / sum(spent):,.0f}"
                    table.add_row(f"{form} {side}x{side}", f"{kilobytes:.0f}", name, *cells, rate)
    console.print(table)


def print_memory(files: int) -> None:
    """Peak memory of reading files of 512x512 pixels, by decoder."""
    with tempfile.TemporaryDirectory(prefix="lfm-decoding-") as temporary:
        make_files(Path(temporary), "JPEG", 512, files, None)
        for name in DECODERS:
            few, many = (_peak_mib(temporary, name, count) for count in _COUNTS)
            print(f"{name}: {few:.0f} MiB over {_COUNTS[0]:,} files, {many:.0f} MiB over {_COUNTS[1]:,}")


def _peak_mib(folder: str, decoder: str, count: int) -> float:
    """Peak resident memory of a process that reads files again and again."""
    script = (
        "import itertools, resource, sys; from pathlib import Path\n"
        "from lfm_deploy.pictures.decoders import open_decoder\n"
        "from lfm_deploy.pictures.pipeline import read_groups\n"
        "from lfm_deploy.pictures.sources import file_source\n"
        "folder, decoder, count = sys.argv[1:]\n"
        "paths = itertools.islice(itertools.cycle(sorted(Path(folder).iterdir())), int(count))\n"
        "jpeg = open_decoder(decoder).jpeg\n"
        "for _ in read_groups(map(file_source, paths), 256, batch=64, jpeg=jpeg): pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    command = [sys.executable, "-c", script, folder, decoder, str(count)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) / 1024


def make_files(folder: Path, form: str, side: int, count: int, pictures: Path | None) -> list[Path]:
    """Square pictures of a format and size."""
    if pictures is None:
        # The photographs at hand are smaller than the largest squares: cut at 256, then enlarged.
        squares = [Image.fromarray(tile) for tile in sample_tiles(256, 256, count)]
    else:
        squares = [open_rgb(path) for path in find_images(pictures)[:count]]
    paths = []
    for index, square in enumerate(squares):
        path = folder / f"{index:03}-{side}.{form.lower()}"
        square.resize((side, side), Image.Resampling.LANCZOS).save(path, format=form, quality=90, subsampling=2)
        paths.append(path)
    return paths


def measure(paths: list[Path], decoders: list[PictureDecoder], rounds: int) -> dict[str, list[float]]:
    """Microseconds of each step, by decoder: the mean over files of the best of the rounds."""
    slot = np.empty((SIDE, SIDE, 3), np.uint8)
    best = {decoder.name: np.full((len(paths), len(STEPS)), np.inf) for decoder in decoders}
    for turn in range(rounds):
        for number, path in enumerate(paths):
            first = (turn + number) % len(decoders)
            for decoder in decoders[first:] + decoders[:first]:
                spent = run_once(path, decoder, slot)
                best[decoder.name][number] = np.minimum(best[decoder.name][number], spent)
    return {name: list(1e6 * found.mean(0)) for name, found in best.items()}


def run_once(path: Path, decoder: PictureDecoder, slot: Any) -> list[float]:
    """Processor seconds of the three steps; a picture of the right size is decoded into its place."""
    content, reading = timed(path.read_bytes)
    fits = False

    def decode(picture: Image.Image) -> Image.Image:
        nonlocal fits
        if decoder.jpeg is None:
            return decode_rgb(picture)
        fits = picture.size == (SIDE, SIDE)
        found = decode_opened(picture, decoder.jpeg, slot if fits else None, resized=not fits)
        if found is None:
            raise RuntimeError(f"{path}: {decoder.name} leaves it to Pillow")
        return picture if fits else Image.fromarray(found)

    picture, decoding = timed(lambda: open_picture(content, lambda _: None, decode))
    if fits:
        return [reading, decoding, 0.0]
    _, resizing = timed(lambda: place(picture, slot))
    return [reading, decoding, resizing]


def place(picture: Image.Image, slot: Any) -> None:
    """Resize a picture and put it where the engine reads it."""
    slot[...] = np.asarray(resize_picture(picture, SIDE, SIDE))


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What work returns, and the processor's time for it in seconds."""
    start = time.process_time_ns()
    found = work()
    return found, (time.process_time_ns() - start) / 1e9


if __name__ == "__main__":
    main()
