"""Plots that were drawn before: the same plot of the same values is not drawn again, and matplotlib not imported.

A drawing is a file in a folder of the workdir, named by the hash of the plot's name, its values and the versions that
draw it.
"""

import json
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from lfm_deploy.storage.atomic import sha256_of_bytes, write_atomically
from lfm_deploy.version import __version__

# Counts up where a plot of the same values changes between versions of this package.
_VERSION = 1
_END = "</svg>"


class Drawings:
    """Draws plots, or finds them drawn."""

    def __init__(self, folder: Path | None = None) -> None:
        """Where drawings are kept; None keeps none."""
        self._folder = folder
        self._used: set[str] = set()

    def draw(self, plot: str, *values: Any, **named: Any) -> Markup:
        """The SVG of a plot.

        Args:
            plot: module and function in ``lfm_deploy.report.plots``, such as ``"curves.plot_curves"``.
            values: arguments of the plot; plain values and NumPy arrays.
            named: keyword arguments of the plot; plain values and NumPy arrays.
        """
        if self._folder is None:
            return _draw(plot, values, named)
        versions = [_VERSION, __version__, version("matplotlib")]
        key = json.dumps([plot, values, named, versions], default=np.ndarray.tolist, sort_keys=True)
        name = f"{sha256_of_bytes(key.encode())[:32]}.svg"
        self._used.add(name)
        path = self._folder / name
        if path.is_file() and (known := path.read_text(encoding="utf-8")).rstrip().endswith(_END):
            return Markup(known)  # noqa: S704  # SVG by matplotlib, which escapes
        drawn = _draw(plot, values, named)
        with write_atomically(path) as temporary:
            temporary.write_text(drawn, encoding="utf-8")
        return drawn

    def remove_others(self) -> None:
        """Delete the drawings that were not asked for."""
        if self._folder is not None and self._folder.is_dir():
            for path in self._folder.glob("*.svg"):
                if path.name not in self._used:
                    path.unlink(missing_ok=True)


def _draw(plot: str, values: tuple[Any, ...], named: dict[str, Any]) -> Markup:
    module, _, function = plot.partition(".")
    draw = getattr(import_module(f"lfm_deploy.report.plots.{module}"), function)
    return Markup(draw(*values, **named))  # noqa: S704  # SVG by matplotlib, which escapes
