"""The file of one part's results: a first line that says what it is, sealed, then the rows as predict has them.

``tail -n +2 FILE`` is what predict prints for the same pictures. A file is written whole or not at all, and read back
checked, so that what is there can be skipped and collected without being judged again.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from lfm_deploy.errors import ArtifactError, WriteError
from lfm_deploy.prediction.rows import Prediction
from lfm_deploy.storage.atomic import sha256_of_bytes, write_atomically
from lfm_deploy.storage.sealed_values import seal_values, take_seal
from lfm_deploy.storage.text import decode_text
from lfm_deploy.storage.values import Count, Reader, Sha256

_FORMAT = "lfm-deploy part 1"
_REMEDY = "remove it, and judge its part again by the command that made it"
# A hundred times what the settings take.
_MOST_HEAD_BYTES = 1 << 20
# Where locks hold on one node alone, another that starts may take a temporary file for a leftover, which it does once.
_TRIES = 3
# Of these, results of one list may come from several: another node has another processor, and card 1 is as good as 0.
_OF_THE_MACHINE = ("device", "libraries", "processor")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCounts:
    """How many pictures of a part there are of each kind.

    Attributes:
        fake: number of pictures above the threshold.
        uncertain: number of pictures in the band without a verdict.
        real: number of pictures below the threshold and the band.
        not_judged: number of pictures that could not be judged.
        outside: number of pictures among all of these that are outside of what the detector was proved on.
    """

    fake: Count = 0
    uncertain: Count = 0
    real: Count = 0
    not_judged: Count = 0
    outside: Count = 0

    @property
    def pictures(self) -> int:
        """Number of pictures, judged or not."""
        return self.fake + self.uncertain + self.real + self.not_judged

    def __add__(self, other: "PartCounts") -> "PartCounts":
        mine, others = asdict(self), asdict(other)
        return PartCounts(**{field.name: mine[field.name] + others[field.name] for field in fields(self)})

    def describe(self, *, outside: bool) -> str:
        """Such as ``"7 pictures: 2 fake, 4 real, 1 not judged"``.

        Args:
            outside: whether to say how many are outside, which is known where a range was proved.
        """
        named = {"fake": self.fake, "uncertain": self.uncertain, "real": self.real, "not judged": self.not_judged}
        shown = [f"{count:,} {name}" for name, count in named.items() if count or name in ("fake", "real")]
        shown += [f"{self.outside:,} outside of what this detector was proved on"] if outside else []
        return f"{self.pictures:,} picture{'' if self.pictures == 1 else 's'}: {', '.join(shown)}"

    @classmethod
    def of(cls, rows: Iterable[Prediction]) -> "PartCounts":
        """Count rows.

        Args:
            rows: verdicts on pictures.
        """
        found = dict.fromkeys((field.name for field in fields(cls)), 0)
        for row in rows:
            found[row.verdict or "not_judged"] += 1
            found["outside"] += row.is_outside
        return cls(**found)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartHead:
    """The first line of a part's file.

    Attributes:
        part: name of the part for people; bytes that are no UTF-8 are escaped.
        part_sha256: SHA-256 of the names of what was judged, as ``Part`` has it.
        shard_bytes: size of the shard in bytes when it was judged; None where there is no shard, or none was found.
        rows_format: format of the rows: ``"csv"`` or ``"jsonl"``.
        settings: values that rows depend on, the same for all parts of a list.
        settings_sha256: SHA-256 of the settings.
        machine: values of the machine that judged it; logits may depend on them in their last bits.
        counts: number of pictures of each kind.
        problem: reason why the shard could not be read, or not to its end; None where it could.
        rows_bytes: number of bytes of the rows.
        rows_sha256: SHA-256 of the rows.
    """

    part: str
    part_sha256: Sha256
    shard_bytes: Count | None
    rows_format: Literal["csv", "jsonl"]
    settings: dict[str, Any]
    settings_sha256: Sha256
    machine: dict[str, Any]
    counts: PartCounts
    problem: str | None
    rows_bytes: Count
    rows_sha256: Sha256

    def __post_init__(self) -> None:
        if self.settings_sha256 != hash_settings(self.settings):
            raise ArtifactError("settings_sha256 is not that of the settings")


def split_settings(run: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What must be the same for all parts of a list, and what may be each machine's own.

    Args:
        run: values from ``describe_run``.

    Returns:
        Settings and machine, plain as JSON reads them back; among the settings is the kind of device without its
        number.
    """
    plain = json.loads(json.dumps(run))
    machine = {name: plain.pop(name) for name in _OF_THE_MACHINE if name in plain}
    return plain | {"device": str(machine.get("device", "")).partition(":")[0]}, machine


def hash_settings(settings: Mapping[str, Any]) -> str:
    """SHA-256 of settings, in hexadecimal.

    Args:
        settings: plain values.
    """
    return sha256_of_bytes(json.dumps(settings, sort_keys=True).encode())


def readable(text: str) -> str:
    """A name or a reason as text that every JSON file can hold; bytes that are no UTF-8 are escaped.

    Args:
        text: name as Python has it from the file system.
    """
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def write_part(path: Path, head: PartHead, rows: bytes) -> None:
    """Write a part's file, whole or not at all.

    Args:
        path: path of the file; one that is there is replaced.
        head: values of its first line.
        rows: rows behind it, with their heading.

    Raises:
        WriteError: the file cannot be written.
    """
    first = json.dumps(seal_values({"format": _FORMAT} | asdict(head)), allow_nan=False).encode() + b"\n"
    for left in reversed(range(_TRIES)):
        try:
            with write_atomically(path) as temporary, temporary.open("wb") as file:
                file.write(first)
                file.write(rows)
            return
        except OSError as error:
            if not (isinstance(error, FileNotFoundError) and left):
                remedy = "make room or choose another --output-dir; what is there is kept"
                raise WriteError(path, error, remedy) from None


def read_head(path: Path) -> PartHead:
    """The first line of a part's file, checked; the rows are not read.

    Args:
        path: path of the file.

    Raises:
        ArtifactError: the file cannot be read, is damaged, or of another kind.
    """
    reader = Reader(where=str(path), remedy=_REMEDY)
    try:
        with path.open("rb") as file:
            line = file.readline(_MOST_HEAD_BYTES)
        text = decode_text(line)
    except OSError as error:
        reader.refuse(f"cannot be read ({error.strerror or error})")
    except UnicodeDecodeError:
        reader.refuse("no file of predict --output-dir")
    if not line.endswith(b"\n"):
        reader.refuse("cut short, or no file of predict --output-dir")
    values = reader.parse_json(text)
    take_seal(values, reader) if isinstance(values, dict) else None
    reader.take_format(values, _FORMAT)
    return reader.convert(values, PartHead)


def read_rows(path: Path, head: PartHead) -> bytes:
    """The rows of a part's file, with their heading, checked.

    Args:
        path: path of the file.
        head: first line of it, from ``read_head``.

    Raises:
        ArtifactError: the file cannot be read, or its rows are not those that were written.
    """
    reader = Reader(where=str(path), remedy=_REMEDY)
    try:
        with path.open("rb") as file:
            file.readline(_MOST_HEAD_BYTES)
            rows = file.read(head.rows_bytes + 1)
    except OSError as error:
        reader.refuse(f"cannot be read ({error.strerror or error})")
    if len(rows) != head.rows_bytes or hashlib.sha256(rows).hexdigest() != head.rows_sha256:
        reader.refuse("damaged or changed since it was made (its rows are not those that were written)")
    return rows


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two settings, for messages; empty where nothing does.

    Args:
        before: settings that rows were made with.
        now: other settings.
    """
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    return "; ".join(f"{name} {_shown(before.get(name))} and {_shown(now.get(name))}" for name in names)


def _shown(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text if len(text) <= 60 else f"{text[:57]}..."
