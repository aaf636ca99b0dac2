"""From files to verdicts: decoding, resizing and the engine together, beside each of them alone."""

import contextlib
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from lfm_deploy.benchmark import bench_worker
from lfm_deploy.benchmark.rounds import Effort, spread_of
from lfm_deploy.benchmark.sweep import Contender, Seat, take_seat
from lfm_deploy.benchmark.workers import Values, WorkerError
from lfm_deploy.errors import ImageError, InputError, UnavailableError
from lfm_deploy.pictures.images import find_images
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.progress import Progress, ignore_progress

_SAMPLES = 64
_FEWEST_BATCHES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """The files that are read, again and again.

    Attributes:
        paths: files to read.
        what: description of them for people.
    """

    paths: tuple[Path, ...]
    what: str


@dataclass(slots=True)
class FileFigures:
    """One engine over files.

    Attributes:
        batch: most pictures in a batch.
        on_gpu: whether the engine runs on a GPU, which leaves the cores to decoding.
        fps: pictures per second from files to verdicts, of every round.
        engine_fps: pictures per second of the engine alone in the same process, of every round.
        decoding_fps: pictures per second of decoding alone, of every round.
        peak_memory_mib: most memory in MiB that the process held; None before anything was measured.
        pictures: number of files that were read in all rounds.
        skipped: number of files that could not be judged.
        failure: reason why there are no figures; None where there are.
    """

    batch: int
    on_gpu: bool = False
    fps: list[float] = field(default_factory=list)
    engine_fps: list[float] = field(default_factory=list)
    decoding_fps: list[float] = field(default_factory=list)
    peak_memory_mib: float | None = None
    pictures: int = 0
    skipped: int = 0
    failure: str | None = None

    @property
    def share(self) -> float:
        """Share of the limit, a fraction, median of the rounds.

        The limit is 1 / (1/engine + 1/decoding) on shared cores, and the slower of the two on a GPU.
        """
        rounds = zip(self.fps, self.engine_fps, self.decoding_fps, strict=True)
        return statistics.median(fps / self._limit(engine, decoding) for fps, engine, decoding in rounds)

    @property
    def spread(self) -> float:
        """Highest less lowest round over the median, a fraction."""
        return spread_of(self.fps)

    def _limit(self, engine: float, decoding: float) -> float:
        return min(engine, decoding) if self.on_gpu else 1 / (1 / engine + 1 / decoding)

    def bound_by(self) -> str:
        """What takes most of the time: ``"decoding"`` or ``"engine"``."""
        return "decoding" if statistics.median(self.decoding_fps) < statistics.median(self.engine_fps) else "engine"


@contextlib.contextmanager
def find_pictures(folder: Path | None, side: int) -> Iterator[Pictures]:
    """The pictures of a folder, or tiles of photographs as PNG and JPEG in a folder that goes away.

    Args:
        folder: folder to look in; None makes tiles.
        side: side of the square tiles, in pixels.

    Raises:
        InputError: the folder has no picture.
    """
    if folder is not None:
        paths = tuple(find_images(folder))
        if not paths:
            raise InputError(f"{folder}: no picture in it; give a folder of PNG, JPEG or WebP files to --pictures")
        yield Pictures(paths=paths, what=f"{len(paths)} files of {folder}")
        return
    with tempfile.TemporaryDirectory(prefix="lfm-bench-") as name:
        paths = tuple(Path(name, f"{index:03}.{('png', 'jpg')[index % 2]}") for index in range(_SAMPLES))
        for path, tile in zip(paths, sample_tiles(side, side, _SAMPLES), strict=True):
            Image.fromarray(tile).save(path, quality=95)
        yield Pictures(
            paths=paths, what=f"tiles of photographs, {side}x{side}, {_SAMPLES // 2} PNG and {_SAMPLES // 2} JPEG"
        )


def measure_files(
    contenders: Sequence[Contender],
    batches: Mapping[str, int],
    pictures: Pictures,
    effort: Effort,
    *,
    threads: int,
    on_progress: Progress = ignore_progress,
) -> dict[str, FileFigures]:
    """Files to verdicts with each engine, in interleaved rounds with decoding alone and the engines alone.

    Args:
        contenders: engines that can run here.
        batches: most pictures in a batch, by name of an engine.
        pictures: files to read.
        effort: time and rounds for each engine.
        threads: number of CPU threads for decoding, and for each engine.
        on_progress: callback that gets what is done, how much, and of how much.
    """
    found = {one.name: FileFigures(batch=batches[one.name]) for one in contenders}
    shared: Values = {"paths": [str(path) for path in pictures.paths], "threads": threads}
    with contextlib.ExitStack() as stack:
        seats: dict[str, Seat] = {}
        decoders: dict[str, Seat] = {}
        for one in contenders:
            own = shared | {"size": one.size, "batch": batches[one.name]}
            # Decoding shares the cores with the engine, whose idle threads must not spin then.
            opening = {"job": "files", "spin": False} | one.describe()
            seats[one.name] = take_seat(stack, Seat(one.command, opening | own))
        for one in contenders:
            own = shared | {"size": one.size, "batch": batches[one.name]}
            decoders[one.name] = take_seat(stack, Seat(bench_worker.COMMAND, {"job": "decoding"} | own))
        total = effort.rounds * len(contenders)
        for turn in range(total):
            on_progress("files to verdicts", turn, total)
            name = contenders[turn % len(contenders)].name
            _measure_one(seats[name], decoders[name], found[name], effort, turn // len(contenders))
        on_progress("files to verdicts", total, total)
    return found


def _measure_one(seat: Seat, decoder: Seat, figures: FileFigures, effort: Effort, round_index: int) -> None:
    """One turn: the engine alone, decoding alone, and both, over the same files."""
    if figures.failure is not None:
        return
    seconds, batch = effort.turn_seconds, figures.batch
    fewest = batch * (1 if effort.quick else _FEWEST_BATCHES)
    try:
        figures.on_gpu = seat.open()["device"] != "cpu"
        times = seat.ask({"what": "engine", "seconds": seconds, "runs": effort.turn_runs})["times"]
        engine_fps = batch * len(times) / sum(times)
        guess = figures.decoding_fps[-1] if figures.decoding_fps else _rate(decoder.ask(_files(0, fewest)))
        count = max(fewest, round(seconds / (1 / engine_fps + 1 / guess) / batch) * batch)
        part = _files(round_index * count, count)
        decoding_fps = _rate(decoder.ask(part))
        answer = seat.ask(part)
        fps = _rate(answer)
    except (WorkerError, UnavailableError, ImageError) as error:
        figures.failure = str(error)
        return
    figures.engine_fps.append(engine_fps)
    figures.decoding_fps.append(decoding_fps)
    figures.fps.append(fps)
    figures.pictures += count
    figures.skipped += count - answer["pictures"]
    figures.peak_memory_mib = answer["peak_memory_mib"]


def _files(start: int, count: int) -> Values:
    return {"what": "files", "start": start, "pictures": count}


def _rate(answer: Values) -> float:
    if not answer["pictures"]:
        raise ImageError("none of the files could be judged; look at them with 'lfm-deploy predict'")
    return float(answer["pictures"] / answer["seconds"])
