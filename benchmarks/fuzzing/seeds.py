"""Whole files that bad ones are made from: a workdir, pictures, a stopped training run, and the right answers."""

import io
import json
import os
import shutil
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RECIPE: dict[str, Any] = {
    "base": "demo",
    "tiles": 2,
    "epochs": 2,
    "batch": 8,
    "crop": 64,
    "model": {"widths": [4, 8, 8, 16], "projection": 8},
}
# Pillow's name of each format, how it is saved, and suffixes of its files.
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 92}),
    ".jpeg": ("JPEG", {"quality": 80, "progressive": True}),
    ".webp": ("WEBP", {"lossless": True}),
    ".gif": ("GIF", {}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {"compression": "tiff_lzw"}),
    ".tiff": ("TIFF", {"compression": "jpeg"}),
    ".jp2": ("JPEG2000", {}),
    ".avif": ("AVIF", {}),
    ".ppm": ("PPM", {}),
}
_RESIZE = Image.Resampling.BILINEAR
# Pillow without such a list would start Ghostscript on what a damaged file may look like.
_OPENED = ("PNG", "JPEG", "MPO", "JPEG2000", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "GIF", "PPM")


class Seeds:
    """What ``make_seeds`` left in a folder.

    Attributes:
        folder: path of the folder.
        deploy: path of the workdir in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.deploy = folder / "deploy"
        self._facts: dict[str, Any] = json.loads((folder / "right.json").read_text())

    @property
    def size(self) -> int:
        """Side in pixels that pictures are resized to."""
        return int(self._facts["size"])

    @property
    def threshold(self) -> float:
        """Logit above which a picture is fake."""
        return float(self._facts["threshold"])

    @property
    def engine(self) -> Path | None:
        """A TensorRT engine with its sidecar; None where none could be built."""
        return next(iter(sorted(self.deploy.glob("*.engine"))), None)

    def right(self, name: str) -> Any:
        """What a command prints on a whole file, by the name of that command."""
        return self._facts["answers"][name]

    def has(self, name: str) -> bool:
        """Whether a file is there, relative to the folder."""
        return (self.folder / name).exists()

    @cached_property
    def tiles(self) -> list[bytes]:
        """Four small pictures as PNG files, with different logits."""
        return [path.read_bytes() for path in sorted((self.folder / "tiles").iterdir())]

    @cached_property
    def pictures(self) -> dict[str, bytes]:
        """One picture in each format that this Pillow writes, by suffix."""
        return {path.suffix: path.read_bytes() for path in sorted((self.folder / "formats").iterdir())}

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(self.deploy / "lfm.onnx", options, ["CPUExecutionProvider"])

    @cache  # noqa: B019  # one for each process
    def logit(self, content: bytes) -> float | None:
        """The logit of a picture as Pillow and ONNX Runtime alone have it; None where Pillow cannot read it."""
        try:
            Image.init()
            with Image.open(io.BytesIO(content), formats=[name for name in _OPENED if name in Image.OPEN]) as opened:
                rgb = opened.convert("RGB")
        except Exception:  # whatever Pillow says, it is no picture
            return None
        resized = rgb.resize((self.size, rgb.height), _RESIZE).resize((self.size, self.size), _RESIZE)
        return float(self._session.run(["logit"], {"image": np.asarray(resized)[None]})[0][0])

    def known_logit(self, content: bytes) -> float:
        """The logit of a picture that is whole."""
        logit = self.logit(content)
        if logit is None:
            raise AssertionError("a seed is no picture")
        return logit

    def link_deploy(self, folder: Path, *, without: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> Path:
        """A workdir with the same files; those that a command could write into are copies.

        Args:
            folder: path of the folder to make it in.
            without: names to leave out.
            only: names to take; empty takes all.
        """
        target = folder / "w"
        target.mkdir()
        for path in self.deploy.iterdir():
            if path.name in without or path.is_dir() or (only and path.name not in only):
                continue
            if path.suffix == ".sqlite":
                shutil.copy(path, target)
            else:
                os.link(path, target / path.name)
        return target


def rewrite(path: Path, content: bytes) -> None:
    """Put other bytes in place of a file that may be a link to a seed."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
