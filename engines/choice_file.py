"""Where the fastest ways to run graphs are written down: a file beside the graphs, for one machine."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from engines.way_choice import Choice, W
from lfm_deploy.errors import ArtifactError
from lfm_deploy.storage.atomic import sha256_of_file, write_atomically


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

        Args:
            graph: path of the graph.
            place: facts that a choice depends on besides the graph, such as the machine and versions.

        Raises:
            ArtifactError: the file is damaged.
        """
        values = self.read(graph.parent)
        if values is None or values["machine"] != place:
            return None
        entry = values["graphs"].get(graph.name)
        if entry is None or entry["sha256"] != sha256_of_file(graph):
            return None
        return self.way.from_dict(entry["chosen"])

    def read(self, folder: Path) -> dict[str, Any] | None:
        """All choices in a folder as plain values; None where there is no file.

        Args:
            folder: path of the folder.

        Raises:
            ArtifactError: the file is damaged, or of another version.
        """
        path = folder / self.name
        if not path.is_file():
            return None
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if values["format"] != self.format:
                raise ValueError(values["format"])
            for entry in values["graphs"].values():
                self.way.from_dict(entry["chosen"])
                if not isinstance(entry["sha256"], str):
                    raise TypeError
            if not isinstance(values["machine"], dict):
                raise TypeError
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ArtifactError(
                f"{path}: damaged, or of another version; remove it, and run '{self.command}' to measure again"
            ) from None
        return values

    def write(self, folder: Path, choice: Choice[W], place: Mapping[str, Any]) -> None:
        """Add a choice; those of another place go.

        Args:
            folder: path of the folder; nobody else may write there meanwhile.
            choice: choice to write down.
            place: facts that the choice depends on besides the graph, such as the machine and versions.

        Raises:
            ArtifactError: the file that is there is damaged.
        """
        before = self.read(folder)
        graphs = before["graphs"] if before is not None and before["machine"] == place else {}
        graphs[choice.graph.name] = {"sha256": sha256_of_file(choice.graph)} | choice.as_dict()
        values = {"format": self.format, "machine": dict(place), "graphs": graphs}
        with write_atomically(folder / self.name) as temporary:
            temporary.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")
