"""Stores that fsspec knows, and what they refuse in one line: is the name, the machine or the network at fault.

Names that s3fs, gcsfs and others give their errors are no part of fsspec; what is told apart here is what they share.
"""

import errno
import functools
import logging
import os
import tempfile
from enum import Enum
from typing import Any

from lfm_deploy.errors import (
    DeployError,
    InputError,
    RefusedError,
    StoreError,
    UnavailableError,
    WriteError,
    first_line,
    missing_library,
)

_LIBRARIES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}  # those of the extra
_LONGEST = 200  # letters of what a library says
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# At most 64 MiB of an object are in memory while it is copied; s3fs by itself takes 500 MB.
_COPYING = {"s3": {"chunksize": 16 << 20, "max_concurrency": 4}}


class Asked(Enum):
    """What is asked of a store."""

    INFO = "info"
    LIST = "ls"
    MATCH = "glob"
    READ = "cat_file"
    HEAD = "head"
    GET = "get_file"
    PUT = "put_file"


def ask_store(url: str, asked: Asked, *arguments: str | int) -> Any:
    """Ask a store of an object or a folder; what fsspec keeps of earlier lists is not believed.

    Args:
        url: name of it.
        asked: question to the store.
        arguments: path of the file that is copied from or to, the pattern in words of the store, or how many bytes.

    Raises:
        FileNotFoundError: there is no such object.
        InputError: there is no such store, or it cannot do that.
        StoreError: the store refuses, or is out of reach.
        UnavailableError: the store's library or credentials are missing on this machine.
        WriteError: there is no room for a copy.
    """
    try:
        store, path = find_store(url)
        store.invalidate_cache()
        if asked is Asked.LIST:
            return store.ls(path, detail=True)
        if asked is Asked.MATCH:
            return store.glob(*arguments)
        if asked is Asked.PUT:
            if _scheme(url) not in _LIBRARIES:  # where there are folders
                store.makedirs(store._parent(path), exist_ok=True)
            return store.put_file(*arguments, path)
        options = _COPYING.get(_scheme(url), {}) if asked is Asked.GET else {}
        return getattr(store, asked.value)(path, *arguments, **options)
    except (DeployError, MemoryError):
        raise
    except FileNotFoundError as error:
        if _is_of_bucket(url, error):
            raise RefusedError(f"{url}: there is no such bucket; name one that is there") from None
        raise FileNotFoundError(errno.ENOENT, "no such file", url) from None
    except Exception as error:  # libraries of stores fail in a hundred ways, few of which are an OSError
        raise _describe(url, error) from None


def find_store(url: str) -> tuple[Any, str]:
    """The store of a URL, as fsspec opens it, and the name in it.

    Args:
        url: name of an object or a folder.

    Raises:
        InputError: fsspec knows no such store.
        UnavailableError: the store's library is not installed.
    """
    try:
        import fsspec
    except ImportError as error:
        raise _missing(url, error) from None
    try:
        kind = fsspec.get_filesystem_class(_scheme(url))
    except ImportError as error:
        raise _missing(url, error) from None
    except ValueError:
        raise InputError(
            f"{url}: {_scheme(url)}:// is no store that fsspec knows; use s3://, gs:// or a path of this machine"
        ) from None
    options = kind._get_kwargs_from_urls(url)
    return _open_store(kind, tuple(sorted(options.items())), os.getpid()), kind._strip_protocol(url)


@functools.cache
def _open_store(kind: Any, options: tuple[tuple[str, Any], ...], _process: int) -> Any:
    """One for all threads, with its connections; fsspec by itself makes one for each. None outlives a fork."""
    from fsspec.asyn import get_loop

    for name in ("fsspec", "s3fs", "gcsfs"):  # where nobody logs, Python would print their tracebacks
        logging.getLogger(name).addHandler(logging.NullHandler())
    get_loop().set_exception_handler(lambda *_: None)  # of connections that broke; whoever asked is told by an error
    return kind(**dict(options))


def no_room(what: object, error: OSError) -> WriteError:
    """The error that says that a copy does not fit into the folder for temporary files.

    Args:
        what: URL of what is copied.
        error: error of the system.
    """
    remedy = "make room there, or set TMPDIR to a folder that has it"
    return WriteError(f"a copy of {what} in {tempfile.gettempdir()}", error, remedy)


def _scheme(url: str) -> str:
    return url.partition("://")[0]


def _missing(url: str, error: ImportError) -> UnavailableError:
    library = "fsspec" if error.name == "fsspec" else _LIBRARIES.get(_scheme(url))
    if library is None:
        return UnavailableError(f"{url}: not run: {first_line(error)}")
    first = error.__cause__ if isinstance(error.__cause__, ImportError) else error
    return missing_library(first, f"{library}, which reads {url}", "pip install 'lfm-deploy[remote]'")


def _is_of_bucket(url: str, error: FileNotFoundError) -> bool:
    """Whether it is the bucket that is not there, by the words of S3 and Google, which s3fs and gcsfs pass on."""
    is_bucket = _scheme(url) in _LIBRARIES and "/" not in url.partition("://")[2].strip("/")
    return is_bucket or type(error.__cause__).__name__ == "NoSuchBucket" or "bucket does not exist" in str(error)


def _describe(url: str, error: Exception) -> DeployError:
    said = " ".join(str(error).split())[:_LONGEST] or type(error).__name__
    if isinstance(error, OSError) and error.errno in FULL:
        return no_room(url, error)
    if any("Credential" in kind.__name__ for kind in type(error).__mro__):
        return UnavailableError(
            f"{url}: not run: no credentials on this machine ({said}); set those of the store, such as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
        )
    if isinstance(error, PermissionError):
        return RefusedError(f"{url}: the store refuses: {said}; check the credentials, and what they may do there")
    if isinstance(error, NotImplementedError):
        return InputError(f"{url}: the store cannot do that; use another, or a path of this machine")
    if isinstance(error, ValueError) or "Validation" in type(error).__name__:
        return InputError(f"{url}: no name of this store: {said}")
    return StoreError(f"{url}: the store is out of reach, or fails: {said}; the same command again continues")
