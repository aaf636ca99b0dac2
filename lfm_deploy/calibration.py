"""``lfm-deploy calibrate``: pictures in, ``ranges.json`` out, every range judged by what it does to the logits."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from math import sqrt
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from calib.activations import ActivationReader, TensorStatistics
from calib.candidates import find_candidates
from calib.pictures import PictureStore, hash_pixels
from calib.sample import Sampled, order_pictures
from calib.scoring import score_graph
from export.levelling import choose_channel_ranges, selected_name
from export.names import LAST_OUTPUT, input_name, quantisable_tensors
from export.precision import Int8Config, quantise_tensor
from export.splitting import count_parts
from lfm_deploy.artifacts import GraphInfo, InputForm, Precision, read_graph_info
from lfm_deploy.atomic import sha256_of_file, write_atomically
from lfm_deploy.config import ModelConfig
from lfm_deploy.errors import ArtifactError, ConfigError, ImageError, SuiteError
from lfm_deploy.images import SkippedImage, read_image
from lfm_deploy.quantisation import Recipe
from lfm_deploy.ranges import CHOOSE, JUDGE, CalibrationPicture, Ranges, TensorRange, hash_contract
from lfm_deploy.version import __version__
from lfm_deploy.workdir import Workdir

FEWEST_PICTURES, GOOD_COUNT = 32, 128
_HISTOGRAM_BINS = 128
_BY_CHANNEL = "by channel, of what is selected"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a calibration made: the ranges, and the pictures that could not take part."""

    ranges: Ranges
    skipped: tuple[SkippedImage, ...]


def calibrate_into(
    workdir: Workdir,
    images: Path,
    *,
    count: int = GOOD_COUNT,
    seed: int = 0,
    on_message: Callable[[str], None] = lambda _: None,
    on_progress: Progress = lambda *_: None,
) -> Calibration:
    """Measure activation ranges on a balanced sample of pictures and write ``ranges.json``.

    Half of the pictures choose ranges, and later layers; the other half only judges what came out. The same pictures
    and seed give the same file.

    Args:
        workdir: a folder that a checkpoint was exported into.
        images: flat, with ``0_real/`` and ``1_fake/``, or with categories.
        count: most pictures to take.
        seed: of the sample.
        on_message: takes lines for people.
        on_progress: called with what is done, how much, and of how much.

    Raises:
        ArtifactError: nothing was exported here, or the graph takes normalised input.
        SuiteError: the folder is missing, or fewer than 32 of its pictures can be used.
    """
    if count < FEWEST_PICTURES:
        raise ConfigError(f"--count {count}: need at least {FEWEST_PICTURES} pictures")
    workdir.require_checkpoint()
    graph = workdir.graph(Precision.FP32)
    info = read_graph_info(graph)
    require_raw_pixels(graph, info)
    with PictureStore() as store, workdir.lock(on_message):
        taken, skipped = _take_pictures(images, info, count, seed, store, on_progress)
        _require_enough(taken, skipped, images, on_message)
        base = onnx.load(graph)
        chooses = [index for index, picture in enumerate(taken) if picture.part == CHOOSE]
        tensors = _measure_tensors(base, info.config, store, chooses, on_progress)
        ranges = Ranges(
            onnx_sha256=sha256_of_file(graph),
            checkpoint_sha256=info.checkpoint_sha256,
            contract=info.contract,
            contract_sha256=hash_contract(info.contract),
            images=str(images),
            count=count,
            seed=seed,
            pictures=tuple(taken),
            tensors=tensors,
            versions=calibration_versions(),
        )
        with write_atomically(workdir.ranges) as temporary:
            temporary.write_text(ranges.to_json(), encoding="utf-8")
    return Calibration(ranges=ranges, skipped=tuple(skipped))


def calibration_versions() -> dict[str, str]:
    """Versions of what shapes ranges: this project and ONNX Runtime."""
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            return {"lfm-deploy": __version__, "onnxruntime": version(name)}
        except PackageNotFoundError:
            continue
    return {"lfm-deploy": __version__}


def require_raw_pixels(graph: Path, info: GraphInfo) -> None:
    """Refuse a graph of normalised input, whose residuals are no whole grey levels.

    Raises:
        ArtifactError: the message has the command that makes another.
    """
    if info.input is not InputForm.UINT8:
        raise ArtifactError(
            f"{graph}: takes normalised input, and INT8 needs raw pixels, whose residuals are whole grey levels; run "
            "'lfm-deploy export CHECKPOINT.pth' without --input float"
        )


def load_pictures(ranges: Ranges, folder: Path, config: ModelConfig, store: PictureStore) -> None:
    """Read the pictures of a calibration again, in their order.

    Raises:
        ArtifactError: one is missing, or its pixels are not those that were measured.
    """
    for picture in ranges.pictures:
        try:
            image = read_image(folder / picture.path, ranges.contract.size, config)
        except ImageError as error:
            raise ArtifactError(
                f"{error}; it took part in the calibration. Say where the pictures are with --images, or run "
                f"'{ranges.command}' again"
            ) from None
        if hash_pixels(image) != picture.sha256:
            raise ArtifactError(
                f"{folder / picture.path}: its pixels have changed since the calibration; run '{ranges.command}' again"
            )
        store.add(image)


def _take_pictures(
    folder: Path, info: GraphInfo, count: int, seed: int, store: PictureStore, on_progress: Progress
) -> tuple[list[CalibrationPicture], list[SkippedImage]]:
    """As many pictures of each label as there are, alternately for choosing and judging."""
    queues = {label: iter(pictures) for label, pictures in order_pictures(folder, seed).items()}
    taken: list[CalibrationPicture] = []
    skipped: list[SkippedImage] = []
    seen: dict[str, Path] = {}
    of_label = dict.fromkeys(queues, 0)

    def next_usable(queue: "list[Sampled]") -> tuple[Sampled, str, NDArray[np.uint8]] | None:
        for candidate in queue:
            try:
                image = read_image(folder / candidate.path, info.contract.size, info.config)
            except ImageError as error:
                skipped.append(SkippedImage(folder / candidate.path, str(error).partition(": ")[2]))
                continue
            digest = hash_pixels(image)
            if digest in seen:
                skipped.append(SkippedImage(folder / candidate.path, f"the same pixels as {seen[digest]}"))
                continue
            seen[digest] = candidate.path
            return candidate, digest, image
        return None

    while len(taken) + len(queues) <= count:
        # One of each label, or none: the classes stay balanced to the end.
        row = [next_usable(queue) for queue in queues.values()]  # type: ignore[arg-type]
        if not all(row):
            break
        for found in row:
            if found is None:
                continue
            picture, digest, image = found
            part = (CHOOSE, JUDGE)[of_label[picture.label] % 2]
            of_label[picture.label] += 1
            taken.append(
                CalibrationPicture(path=picture.path.as_posix(), sha256=digest, label=picture.label, part=part)
            )
            store.add(image)
        on_progress("reading pictures", len(taken), count)
    return taken, skipped


def _require_enough(
    taken: list[CalibrationPicture], skipped: list[SkippedImage], folder: Path, on_message: Callable[[str], None]
) -> None:
    if len(taken) < FEWEST_PICTURES:
        raise SuiteError(
            f"{folder}: {len(taken)} pictures can be used, as many of each class ({len(skipped)} cannot be read or "
            f"repeat another); calibration needs at least {FEWEST_PICTURES}, better {GOOD_COUNT}. Add more pictures"
        )
    if len(taken) < GOOD_COUNT:
        on_message(f"Warning: {len(taken)} pictures are few; {GOOD_COUNT} or more describe better what production sees")


class _Bench:
    """Measures what quantising one tensor does to the logits of the pictures that choose."""

    def __init__(self, base: onnx.ModelProto, store: PictureStore, chooses: list[int]) -> None:
        self._base, self._store, self._chooses = base, store, chooses
        self._reference = score_graph(base, store, chooses)

    def error(self, name: str, config: Int8Config) -> float:
        """Mean |Δlogit| with this tensor alone quantised."""
        logits = score_graph(quantise_tensor(self._base, config, name), self._store, self._chooses)
        return round(float(np.abs(logits - self._reference).mean()), 6)


def _measure_tensors(
    base: onnx.ModelProto, config: ModelConfig, store: PictureStore, chooses: list[int], on_progress: Progress
) -> dict[str, TensorRange]:
    names = quantisable_tensors(config)
    statistics = {name: TensorStatistics() for name in names}
    picked = selected_name(base)
    reader, done = ActivationReader(base, [*names, picked]), 0
    lowest, highest = np.full(config.projection, np.inf), np.full(config.projection, -np.inf)
    for images in store.batches(chooses):
        found = reader.read(images)
        selected = found.pop(picked)  # (N, C, k)
        lowest, highest = np.minimum(lowest, selected.min((0, 2))), np.maximum(highest, selected.max((0, 2)))
        for name, values in found.items():
            statistics[name].add(values)
        done += len(images)
        on_progress("collecting activations", done, len(chooses))
    bench = _Bench(base, store, chooses)
    tensors = {}
    for index, name in enumerate(names):
        on_progress("choosing ranges", index, len(names) + 1)
        tensors[name] = _measure_tensor(name, statistics[name], bench)
    tensors[LAST_OUTPUT] = _try_channels(tensors[LAST_OUTPUT], choose_channel_ranges(lowest, highest), bench)
    on_progress("choosing ranges", len(names), len(names) + 1)
    # For the CPU every layer must be INT8 to be fast, so the tensor that suffers most gets finer steps.
    inner = [name for name in names[1:-1] if tensors[name].lowest >= 0]
    if inner:
        worst = max(inner, key=lambda name: tensors[name].errors[Recipe.CPU][tensors[name].choice[Recipe.CPU]])
        tensors[worst] = _try_parts(worst, tensors[worst], bench)
    on_progress("choosing ranges", len(names) + 1, len(names) + 1)
    return tensors


def _measure_tensor(name: str, statistics: TensorStatistics, bench: _Bench) -> TensorRange:
    histogram = statistics.histogram
    highest = statistics.channel_highest if statistics.channel_highest is not None else np.zeros(0, np.float32)
    inner = {name: highest} if histogram.lowest >= 0 else {}
    candidates: dict[Recipe, dict[str, tuple[float, float]]] = {}
    errors: dict[Recipe, dict[str, float]] = {}
    # For TensorRT, what Top-K pooling selects from stays float16.
    for recipe in (Recipe.CPU,) if name == LAST_OUTPUT else tuple(Recipe):

        def measure(limits: tuple[float, float], recipe: Recipe = recipe) -> float:
            return bench.error(name, Int8Config(recipe=recipe, ranges={name: limits}, channel_highest=inner))

        if name == input_name("conv1"):  # its scale is exactly 1 grey level
            candidates[recipe] = {"grey levels": (0.0, float(recipe.levels))}
        else:
            candidates[recipe] = find_candidates(histogram, recipe.levels)
        errors[recipe] = {found: measure(limits) for found, limits in candidates[recipe].items()}
        for found, limits in _between(candidates[recipe], errors[recipe]).items():
            candidates[recipe][found] = limits
            errors[recipe][found] = measure(limits)
    counts, low, high = histogram.shrunk(_HISTOGRAM_BINS)
    return TensorRange(
        lowest=histogram.lowest,
        highest=histogram.highest,
        channel_highest=tuple(float(value) for value in highest),
        histogram=tuple(counts),
        histogram_low=low,
        histogram_high=high,
        candidates=candidates,
        errors=errors,
        choice={recipe: min(found, key=found.__getitem__) for recipe, found in errors.items()},
        parts={},
        channel_ranges={},
    )


def _try_parts(name: str, tensor: TensorRange, bench: _Bench) -> TensorRange:
    """The same tensor for the CPU with its loud channels in parts, if that is better with one of the ranges."""
    highest = np.array(tensor.channel_highest)
    candidates, errors = dict(tensor.candidates[Recipe.CPU]), dict(tensor.errors[Recipe.CPU])
    parts = {}
    for found, (low, high) in tensor.candidates[Recipe.CPU].items():
        split = f"{found}, loud channels in parts"
        parts[split] = count_parts(highest, high)
        if parts[split].max() == 1:
            continue
        candidates[split] = (low, high)
        config = Int8Config(
            recipe=Recipe.CPU,
            ranges={name: (low, high)},
            channel_highest={name: highest},
            parts={name: parts[split]},
        )
        errors[split] = bench.error(name, config)
    best = min(errors, key=errors.__getitem__)
    return replace(
        tensor,
        candidates=tensor.candidates | {Recipe.CPU: candidates},
        errors=tensor.errors | {Recipe.CPU: errors},
        choice=tensor.choice | {Recipe.CPU: best},
        parts={Recipe.CPU: tuple(int(count) for count in parts[best])} if best in parts else {},
    )


def _try_channels(tensor: TensorRange, limits: NDArray[np.float64], bench: _Bench) -> TensorRange:
    """The projection's output for the CPU with a range for each channel, if that is better than one for all."""
    outer = (float(limits[:, 0].min()), float(limits[:, 1].max()))
    config = Int8Config(recipe=Recipe.CPU, ranges={LAST_OUTPUT: outer}, channel_ranges=limits)
    errors = tensor.errors[Recipe.CPU] | {_BY_CHANNEL: bench.error(LAST_OUTPUT, config)}
    best = min(errors, key=errors.__getitem__)
    rows = tuple((float(low), float(high)) for low, high in limits)
    return replace(
        tensor,
        candidates={Recipe.CPU: tensor.candidates[Recipe.CPU] | {_BY_CHANNEL: outer}},
        errors={Recipe.CPU: errors},
        choice={Recipe.CPU: best},
        channel_ranges={Recipe.CPU: rows} if best == _BY_CHANNEL else {},
    )


def _between(candidates: dict[str, tuple[float, float]], errors: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Two more candidates: half way, by ratio, from the best one to the next smaller and the next larger."""
    best = min(errors, key=errors.__getitem__)
    smaller = [name for name in candidates if candidates[name][1] < candidates[best][1]]
    larger = [name for name in candidates if candidates[name][1] > candidates[best][1]]
    neighbours = []
    if smaller:
        neighbours.append(max(smaller, key=lambda name: candidates[name][1]))
    if larger:
        neighbours.append(min(larger, key=lambda name: candidates[name][1]))
    return {
        f"between {best} and {name}": (
            0.0 - sqrt(max(candidates[best][0] * candidates[name][0], 0.0)),
            sqrt(candidates[best][1] * candidates[name][1]),
        )
        for name in neighbours
    }
