"""``lfm-deploy calibrate``: pictures in, ``ranges.json`` out, every range judged by what it does to the logits."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from calib.pictures import PictureStore, hash_pixels
from calib.range_choice import measure_tensors
from calib.ranges import CalibrationPicture, Ranges, hash_contract
from calib.sample import Sampled, order_pictures
from calib.sources import assign_folds, find_sources, join_small_sources
from lfm_deploy.artifacts import GraphInfo, InputForm, Precision, read_graph_info
from lfm_deploy.config import ModelConfig, check_quantisable
from lfm_deploy.environment import installed_version
from lfm_deploy.errors import ArtifactError, ConfigError, ImageError, SuiteError
from lfm_deploy.pictures.images import SkippedImage, read_image
from lfm_deploy.pictures.left_out import LeftOut
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.storage.atomic import sha256_of_file, write_atomically
from lfm_deploy.version import __version__
from lfm_deploy.workdir import Workdir

FEWEST_PICTURES, GOOD_COUNT = 32, 128


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
    on_progress: Progress = ignore_progress,
) -> Calibration:
    """Measure activation ranges on a balanced sample of pictures and write ``ranges.json``.

    All pictures choose the ranges. Beside them stands what would be chosen without the pictures of one source, for
    every source in turn, so that each picture can judge what it had no part in. The same pictures and seed give the
    same file.

    Args:
        workdir: a folder that a checkpoint was exported into.
        images: folder of pictures: flat, with ``0_real/`` and ``1_fake/``, or with categories.
        count: number of pictures to take at most.
        seed: seed of the random sample; the same seed takes the same pictures.
        on_message: function that is given each line of text for people.
        on_progress: function that is given the name of a step, how much of it is done, and of how much.

    Raises:
        ArtifactError: nothing was exported here, or the graph takes normalised input.
        ConfigError: INT8 is not made for this network.
        SuiteError: the folder is missing, or fewer than 32 of its pictures can be used.
    """
    if count < FEWEST_PICTURES:
        raise ConfigError(f"--count {count}: need at least {FEWEST_PICTURES} pictures")
    workdir.require_checkpoint()
    graph = workdir.graph(Precision.FP32)
    info = read_graph_info(graph)
    require_raw_pixels(graph, info)
    check_quantisable(info.config, str(graph))
    with PictureStore() as store, workdir.lock(on_message):
        left_out = LeftOut()
        taken, skipped = _take_pictures(images, info, count, seed, store, left_out, on_progress)
        if text := left_out.describe():
            on_message(f"{images}: {text}")
        _require_enough(taken, skipped, images)
        pictures = _assign(taken)
        _warn_of_few(pictures, images, on_message)
        tensors, without = measure_tensors(onnx.load(graph), info.config, store, pictures, on_progress)
        ranges = Ranges(
            onnx_sha256=sha256_of_file(graph),
            checkpoint_sha256=info.checkpoint_sha256,
            contract=info.contract,
            contract_sha256=hash_contract(info.contract),
            images=str(images),
            count=count,
            seed=seed,
            pictures=pictures,
            tensors=tensors,
            folds=without,
            versions=calibration_versions(),
        )
        with write_atomically(workdir.ranges) as temporary:
            temporary.write_text(ranges.to_json(), encoding="utf-8")
    return Calibration(ranges=ranges, skipped=tuple(skipped))


def calibration_versions() -> dict[str, str]:
    """Versions of what shapes ranges: this project and ONNX Runtime."""
    found = installed_version("onnxruntime") or installed_version("onnxruntime-gpu")
    return {"lfm-deploy": __version__} | ({"onnxruntime": found} if found else {})


def require_raw_pixels(graph: Path, info: GraphInfo) -> None:
    """Refuse a graph of normalised input, whose residuals are no whole grey levels.

    Raises:
        ArtifactError: the graph takes normalised input; the message has the command that makes another.
    """
    if info.input is not InputForm.UINT8:
        raise ArtifactError(
            f"{graph}: takes normalised input, and INT8 needs raw pixels, whose residuals are whole grey levels; run "
            "'lfm-deploy export CHECKPOINT.pth' without --input float"
        )


def load_pictures(ranges: Ranges, folder: Path, config: ModelConfig, store: PictureStore) -> None:
    """Read the pictures of a calibration again, in their order.

    Raises:
        ArtifactError: a picture is missing, or its pixels are not those that were measured.
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
    folder: Path,
    info: GraphInfo,
    count: int,
    seed: int,
    store: PictureStore,
    left_out: LeftOut,
    on_progress: Progress,
) -> tuple[list[tuple[Sampled, str]], list[SkippedImage]]:
    """As many pictures of each label as there are, with the digests of their pixels."""
    queues = {label: iter(pictures) for label, pictures in order_pictures(folder, seed, left_out).items()}
    taken: list[tuple[Sampled, str]] = []
    skipped: list[SkippedImage] = []
    seen: dict[str, Path] = {}

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
            taken.append((picture, digest))
            store.add(image)
        on_progress("reading pictures", len(taken), count)
    return taken, skipped


def _assign(taken: list[tuple[Sampled, str]]) -> tuple[CalibrationPicture, ...]:
    """The pictures with their sources and folds."""
    paths, labels = [picture.path.as_posix() for picture, _ in taken], [picture.label for picture, _ in taken]
    sources = join_small_sources(find_sources(paths), labels)
    return tuple(
        CalibrationPicture(path=path, sha256=digest, label=label, source=source, fold=fold)
        for path, (_, digest), label, source, fold in zip(
            paths, taken, labels, sources, assign_folds(sources, labels), strict=True
        )
    )


def _require_enough(taken: list[tuple[Sampled, str]], skipped: list[SkippedImage], folder: Path) -> None:
    if len(taken) < FEWEST_PICTURES:
        raise SuiteError(
            f"{folder}: {len(taken)} pictures can be used, as many of each class ({len(skipped)} cannot be read or "
            f"repeat another); calibration needs at least {FEWEST_PICTURES}, better {GOOD_COUNT}. Add more pictures"
        )


def _warn_of_few(pictures: tuple[CalibrationPicture, ...], folder: Path, on_message: Callable[[str], None]) -> None:
    if len(pictures) < GOOD_COUNT:
        on_message(
            f"Warning: {len(pictures)} pictures are few; {GOOD_COUNT} or more describe better what production sees"
        )
    sources = {picture.source for picture in pictures}
    if len(sources) == len({picture.label for picture in pictures}):
        on_message(
            f"Warning: {folder}: of each class all pictures are of one source, so nobody can say what INT8 does to "
            "others; give pictures of several generators and collections, a folder each"
        )
