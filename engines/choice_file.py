"""Where the fastest ways to run graphs are written down: a file beside the graphs, for one machine."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic

from engines.way_choice import Choice, W
from lfm_deploy.errors import ArtifactError
from lfm_deploy.storage.atomic import sha256_of_file, write_atomically
from lfm_deploy.storage.values import Reader, Sha256

_log = logging.getLogger("lfm_deploy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Generic[W]):
    """What was chosen for one graph.

    Attributes:
        sha256: SHA-256 of the graph's file.
        chosen: the way.
        why: words for why it was chosen.
        tried: every way with its figures, as plain values for people.
    """

    sha256: Sha256
    chosen: W
    why: str = ""
    tried: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices(Generic[W]):
    """What a file holds.

    Attributes:
        machine: facts that all choices depend on besides the graphs.
        graphs: choices by name of the graph.
    """

    machine: dict[str, Any]
    graphs: dict[str, Entry[W]]


@dataclass(frozen=True, slots=True)
class ChoiceFile(Generic[W]):
    """Where choices are written down: a file beside the graphs, for one machine.

    Attributes:
        name: name of the file.
        format: word that the file begins with.
        way: class of the ways in it.
        command: command that measures anew, for messages.
    """

    name: str
    format: str
    way: type[W]
    command: str

    def find(self, graph: Path, place: Mapping[str, Any]) -> W | None:
        """The way that was chosen for a graph in this place; None where none was, or for something else.

        A damaged file is as good as none, and said to be: a choice is of speed, and no verdict depends on it.

        Args:
            graph: path of the graph.
            place: facts that a choice depends on besides the graph, such as the machine and versions.
        """
        choices = self.read_if_whole(graph.parent)
        if choices is None or choices.machine != place:
            return None
        entry = choices.graphs.get(graph.name)
        return entry.chosen if entry is not None and entry.sha256 == sha256_of_file(graph) else None

    def read(self, folder: Path) -> Choices[W] | None:
        """All choices in a folder; None where there is no file.

        Args:
            folder: path of the folder.

        Raises:
            ArtifactError: the file is damaged, or of another version.
        """
        path = folder / self.name
        if not path.is_file():
            return None
        reader = Reader(where=f"{path}: damaged", remedy=f"it is left out; run '{self.command}' to measure again")
        values = reader.read_json(path)
        reader.take_format(values, self.format)
        kind: Any = Choices
        choices: Choices[W] = reader.convert(values, kind[self.way], defaults=True)
        return choices

    def read_if_whole(self, folder: Path) -> Choices[W] | None:
        """All choices in a folder; None where there is no file, or a damaged one, of which a warning says so once."""
        try:
            return self.read(folder)
        except ArtifactError as error:
            _warn_once(str(error))
            return None

    def write(self, folder: Path, choice: Choice[W], place: Mapping[str, Any]) -> None:
        """Add a choice; those of another place go, and so does a damaged file.

        Args:
            folder: path of the folder; nobody else may write there meanwhile.
            choice: choice to write down.
            place: facts that the choice depends on besides the graph, such as the machine and versions.
        """
        before = self.read_if_whole(folder)
        kept = before.graphs if before is not None and before.machine == place else {}
        graphs = {name: asdict(entry) for name, entry in kept.items()}
        graphs[choice.graph.name] = {"sha256": sha256_of_file(choice.graph)} | choice.as_dict()
        values = {"format": self.format, "machine": dict(place), "graphs": graphs}
        with write_atomically(folder / self.name) as temporary:
            temporary.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")


@lru_cache
def _warn_once(message: str) -> None:
    """Several places ask for the settings of one graph."""
    _log.warning("%s", message)
