"""Small pictures for the page: what was judged, and where the checkpoint saw its evidence.

They are kept in a folder of the workdir, by checkpoint, picture and size, so that a second verification draws, and
imports PyTorch for, only what is new.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfm_deploy.contract import SizePolicy
from lfm_deploy.errors import DeployError
from lfm_deploy.pictures.images import read_image
from lfm_deploy.report.findings import flipped_pictures, worst_errors
from lfm_deploy.report.schema import Report, ScoreRow
from lfm_deploy.storage.atomic import sha256_of_bytes, sha256_of_file, write_atomically
from lfm_deploy.workdir import Workdir

MOST_FLIPS = 24
MOST_ERRORS = 8
LONG_SIDE = 160
_QUALITY = 88
_VERSION = 1
_Drawing = Callable[[NDArray[np.uint8]], Image.Image]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """A picture for the page.

    Attributes:
        picture: data URI of what was judged; None where it cannot be shown.
        overlay: data URI of the same with the checkpoint's evidence: red speaks for fake, blue for real.
        note: reason why something is missing; empty where nothing is.
    """

    picture: str | None = None
    overlay: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A picture to show, and where its two files are or will be."""

    path: str
    size: SizePolicy
    stem: Path

    @property
    def files(self) -> tuple[Path, Path]:
        return self.stem.with_suffix(".jpg"), self.stem.with_suffix(".evidence.jpg")


def make_thumbnails(report: Report, rows: Sequence[ScoreRow], workdir: Workdir) -> dict[str, Thumbnail]:
    """Thumbnails of the first flipped pictures and of the worst errors, by path as the report has it.

    Whatever cannot be shown has a thumbnail with the reason. What an earlier report needed and this one does not is
    deleted.

    Args:
        report: report from ``make_report``.
        rows: rows of scores, from ``scores_as_rows``.
        workdir: workdir with the checkpoint that explains; its folder of thumbnails is written.
    """
    sizes = {suite["name"]: suite["size"] for suite in report["suites"]}
    wrong = worst_errors(report, rows, MOST_ERRORS)
    shown = [*flipped_pictures(report)[:MOST_FLIPS], *wrong[0], *wrong[1]]
    found: dict[str, Thumbnail] = {}
    wanted: list[_Wanted] = []
    for path, suite in {picture["path"]: picture["suite"] for picture in shown}.items():
        try:
            key = _key(report["engines"][0]["sha256"], sha256_of_file(Path(path)), sizes[suite])
        except OSError as error:
            found[path] = Thumbnail(note=f"cannot be shown: {(error.strerror or 'cannot be read').lower()}")
        else:
            wanted.append(_Wanted(path, sizes[suite], workdir.thumbnails / key))
    missing = [one for one in wanted if not all(_is_whole(file) for file in one.files)]
    notes = _draw(missing, workdir) if missing else {}
    for one in wanted:
        picture, overlay = (_as_uri(file) if _is_whole(file) else None for file in one.files)
        found[one.path] = Thumbnail(picture=picture, overlay=overlay, note=notes.get(one.path, ""))
    _delete_others(workdir.thumbnails, {file.name for one in wanted for file in one.files})
    return found


def _key(checkpoint: str, picture: str, size: SizePolicy) -> str:
    return sha256_of_bytes(f"{checkpoint} {picture} {size} {LONG_SIDE} {_VERSION}".encode())[:32]


def _draw(missing: Sequence[_Wanted], workdir: Workdir) -> dict[str, str]:
    """Draw what is missing into the folder of thumbnails; returns why what could not be drawn was not, by path.

    One picture at a time, as native sizes differ, and can be large.
    """
    notes = {}
    draw: _Drawing | str | None = None
    for one in missing:
        try:
            pixels = read_image(one.path, one.size)
        except DeployError as error:
            notes[one.path] = f"cannot be shown: {str(error).removeprefix(one.path).lstrip(': ')}"
            continue
        _save(Image.fromarray(pixels), one.files[0])
        draw = draw or _open_overlays(workdir)
        if isinstance(draw, str):
            notes[one.path] = f"no evidence: {draw}"
        else:
            _save(draw(pixels), one.files[1])
    return notes


def _open_overlays(workdir: Workdir) -> _Drawing | str:
    """What draws a picture with the checkpoint's evidence on it, or why there is none."""
    from lfm_deploy.prediction.overlays import CheckpointOverlays  # loads PyTorch only when there is something to draw

    try:
        overlays = CheckpointOverlays(workdir.checkpoint)
    except DeployError as error:
        return str(error)
    return lambda picture: next(overlays.draw(picture[None]))


def _save(picture: Image.Image, path: Path) -> None:
    small = picture.copy()
    small.thumbnail((LONG_SIDE, LONG_SIDE))
    with write_atomically(path) as temporary:
        small.save(temporary, format="JPEG", quality=_QUALITY)


def _is_whole(path: Path) -> bool:
    """Whether a file is there and holds a whole picture of the right size; a damaged one is made anew."""
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as picture:
            picture.load()
            return max(picture.size) <= LONG_SIDE
    except (OSError, SyntaxError, ValueError):  # Pillow raises the latter two for damaged headers
        return False


def _as_uri(path: Path) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _delete_others(folder: Path, kept: set[str]) -> None:
    for path in folder.glob("*.jpg"):
        if path.name not in kept:
            path.unlink(missing_ok=True)
