"""Logits that were computed before, so that a second or a killed verification costs only what is new.

One SQLite file beside the artifacts. A logit is found by its scorer, which names everything that it depends on besides
the picture (``scorer_key``), and by the hash of the picture file; the path plays no part. Speeds are kept beside them.
"""

import hashlib
import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from lfm_deploy.errors import DeployError
from lfm_deploy.storage.atomic import sha256_of_bytes
from lfm_deploy.storage.values import Reader

_FORMAT = "lfm-deploy scores 2"
_T = TypeVar("_T")
_QUERY_SIZE = 500  # well below the number of variables that SQLite takes in one statement
_PATIENCE_SECONDS = 60  # while another process writes
# SQLite's words for a file that is not whole; others, such as "locked" or "full", say nothing of the content.
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR})


class CacheError(DeployError):
    """The cache cannot be used: no room, no right to write, or another process holds it for too long."""


def scorer_key(**values: Any) -> str:
    """What a logit depends on besides the picture, as a hex digest.

    Args:
        values: plain values for JSON, such as hash of the engine's file, runtime with version, device and contract.
    """
    return sha256_of_bytes(json.dumps(values, sort_keys=True, allow_nan=False).encode())


class ScoreCache:
    """Logits, and reasons of pictures that could not be judged, by scorer and picture.

    Everything added is on the disk when ``add`` returns. Several processes may use one file.
    """

    def __init__(self, path: Path, on_warning: Callable[[str], None]) -> None:
        """Open the cache, or make it.

        Args:
            path: path of the file; one that is damaged or of another version is replaced by an empty one.
            on_warning: callback that gets a line which says so.

        Raises:
            CacheError: the file can neither be opened nor made.
        """
        self._path, self._on_warning = path, on_warning
        with self._complaining():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._connection = _open(path)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                on_warning(f"{path}: the cache of scores is damaged ({error}); it is made anew, so all is scored again")
                for leftover in (path, path.with_name(f"{path.name}-journal")):
                    leftover.unlink(missing_ok=True)
                self._connection = _open(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def find(self, scorer: str, pictures: Iterable[str]) -> dict[str, float | str]:
        """What is known: the logit, or the reason why there is none, by picture; unknown pictures are left out.

        Args:
            scorer: key of the scorer from ``scorer_key``.
            pictures: hex digests of picture files.

        Raises:
            CacheError: the file cannot be read.
        """
        wanted = list(dict.fromkeys(pictures))
        found: dict[str, float | str] = {}
        with self._complaining():
            for start in range(0, len(wanted), _QUERY_SIZE):
                part = wanted[start : start + _QUERY_SIZE]
                rows = self._connection.execute(
                    f"SELECT picture, logit, proof FROM scores WHERE scorer = ? AND picture IN ({','.join('?' * len(part))})",  # noqa: E501, S608  # placeholders
                    (scorer, *part),
                )
                found.update(self._keep_proved("scores", scorer, rows))
        return found

    def add(self, scorer: str, found: Mapping[str, float | str]) -> None:
        """Remember logits and reasons; a logit that is no finite number is not kept.

        Args:
            scorer: key of the scorer from ``scorer_key``.
            found: logits, or reasons why there is none, by hex digest of a picture file.

        Raises:
            CacheError: the file cannot be written.
        """
        kept = [
            (scorer, picture, value, _prove("scores", scorer, picture, value))
            for picture, value in found.items()
            if isinstance(value, str) or math.isfinite(value)
        ]
        with self._complaining(), self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?)", kept)

    def find_speeds(self, scorer: str, kind: type[_T]) -> dict[int, _T]:
        """What was measured of a scorer, by batch size.

        Args:
            scorer: key of the scorer and of what was measured, from ``scorer_key``.
            kind: type of the values.

        Raises:
            CacheError: the file cannot be read.
        """
        reader = Reader(where=f"{self._path}: speeds", remedy="go on with --no-cache", error=CacheError)
        with self._complaining():
            rows = self._connection.execute("SELECT batch, speed, proof FROM speeds WHERE scorer = ?", (scorer,))
            texts = self._keep_proved("speeds", scorer, rows)
        return {batch: reader.convert(reader.parse_json(text), kind) for batch, text in texts.items()}

    def add_speeds(self, scorer: str, speeds: Mapping[int, Mapping[str, Any]]) -> None:
        """Remember what was measured.

        Args:
            scorer: key of the scorer and of what was measured, from ``scorer_key``.
            speeds: plain values for JSON, by batch size.

        Raises:
            CacheError: the file cannot be written.
        """
        texts = {batch: json.dumps(dict(values), allow_nan=False) for batch, values in speeds.items()}
        kept = [(scorer, batch, text, _prove("speeds", scorer, batch, text)) for batch, text in texts.items()]
        with self._complaining(), self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO speeds VALUES (?, ?, ?, ?)", kept)

    def _keep_proved(self, table: str, scorer: str, rows: Iterable[tuple[Any, Any, Any]]) -> dict[Any, Any]:
        """Values by their key of those rows that are what was written; a warning counts the others."""
        kept: dict[Any, Any] = {}
        damaged = 0
        for key, value, proof in rows:
            if proof == _prove(table, scorer, key, value):
                kept[key] = value
            else:
                damaged += 1
        if damaged:
            self._on_warning(f"{self._path}: {damaged} rows of {table} are damaged; they are computed again")
        return kept

    @contextmanager
    def _complaining(self) -> Iterator[None]:
        """Say in one line what is wrong with the file."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise CacheError(
                f"{self._path}: the cache of scores cannot be used ({error}); mend that, or go on with --no-cache"
            ) from None


def _prove(table: str, scorer: str, key: object, value: object) -> str:
    """Digest of a row; SQLite keeps none of what is in it."""
    return hashlib.blake2b(repr((table, scorer, key, value)).encode(), digest_size=16).hexdigest()


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    # Errors of our own checks carry no code.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF in _DAMAGED  # the rest of the number says more precisely what happened


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_PATIENCE_SECONDS)
    connection.text_factory = lambda content: content.decode(errors="replace")  # the row's digest finds it
    try:
        with closing(connection.execute("PRAGMA quick_check(1)")) as rows:
            if (state := rows.fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(state.splitlines()[-1])
        with connection:
            connection.execute("CREATE TABLE IF NOT EXISTS about (format TEXT)")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS scores (scorer TEXT, picture TEXT, logit, proof TEXT, "
                "PRIMARY KEY (scorer, picture)) WITHOUT ROWID"
            )
            connection.execute(
                "CREATE TABLE IF NOT EXISTS speeds (scorer TEXT, batch INTEGER, speed TEXT, proof TEXT, "
                "PRIMARY KEY (scorer, batch)) WITHOUT ROWID"
            )
            known = [row[0] for row in connection.execute("SELECT format FROM about")]
            if not known:
                connection.execute("INSERT INTO about VALUES (?)", (_FORMAT,))
            elif known != [_FORMAT]:
                raise sqlite3.DatabaseError(f"format {known[0]}, expected {_FORMAT}")
    except BaseException:
        connection.close()
        raise
    return connection
