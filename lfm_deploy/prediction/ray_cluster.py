"""A Ray cluster: one on this machine that ends with the job, or one that is there; how many actors it has room for."""

import logging
import os
import re
import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from lfm_deploy.errors import ConfigError, UnavailableError, first_line, missing_library
from lfm_deploy.interrupts import hold_interrupts

LOCAL = "local"
_CONNECT_SECONDS = 10
# What passes through Ray are names and counts. Less than 75 MiB it refuses.
_STORE_BYTES = 128 << 20
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it announces that this will be its default
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_COLOR_PREFIX": "0",
}


def require_ray() -> None:
    """Make sure that Ray and Ray Data are there; Ray is told to send no statistics home.

    Raises:
        UnavailableError: Ray, or what Ray Data needs, is not installed.
    """
    # Ray reads these when it is imported, and what it starts inherits them.
    os.environ.update(_ENVIRONMENT)
    try:
        import ray.data  # noqa: F401  # whether it is there
    except ImportError as error:
        raise missing_library(error, "Ray", "pip install 'lfm-deploy[ray]'") from None


@contextmanager
def connect(address: str, cores: int, log: Path) -> Iterator[list[dict[str, Any]]]:
    """Start Ray on this machine, or join a cluster; when the block ends, all that was begun there ends.

    Args:
        address: ``"local"``; or the cluster that this machine belongs to: ``"auto"``, or as in ``"head:6379"``.
        cores: number of cores that a Ray on this machine shares out.
        log: path of the file that gets Ray's messages.

    Yields:
        The machines, as ``ray.nodes`` has them.

    Raises:
        ConfigError: the address is none.
        UnavailableError: Ray does not start, or nothing answers at the address.
    """
    require_ray()
    import ray

    _check_address(address)
    local = {"num_cpus": cores, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
    is_local = address == LOCAL
    try:
        with _logging_into(log), _own_token() if is_local else nullcontext():
            with hold_interrupts():  # half of a Ray is not ended by its shutdown
                ray.init(address=address, log_to_driver=False, **local if is_local else {})
            yield [node for node in ray.nodes() if node["Alive"]]
    except (ConnectionError, RuntimeError, ValueError) as error:
        if ray.is_initialized():
            raise
        raise UnavailableError(f"--ray: {address}: {_describe(error, log)}") from None
    finally:
        ray.shutdown()


def count_actors(nodes: Iterable[Mapping[str, Any]], cores: int, cards: int) -> int:
    """How many actors a cluster has room for.

    Args:
        nodes: machines, as ``ray.nodes`` has them.
        cores: number of cores of each actor.
        cards: number of GPUs of each actor.
    """
    count = 0
    for node in nodes:
        resources = node.get("Resources", {})
        rooms = [int(resources.get("CPU", 0) // cores)]
        rooms += [int(resources.get("GPU", 0) // cards)] if cards else []
        count += min(rooms)
    return count


def share_cores(nodes: Iterable[Mapping[str, Any]], cards: int) -> int:
    """Cores for each actor: one, or of the machine with the fewest a card, an equal share.

    Args:
        nodes: machines, as ``ray.nodes`` has them.
        cards: number of GPUs of each actor.
    """
    if not cards:
        return 1
    resources = [node.get("Resources", {}) for node in nodes]
    shares = [
        int(found.get("CPU", 0) // (found["GPU"] // cards)) for found in resources if found.get("GPU", 0) >= cards
    ]
    return max(1, min(shares, default=1))


def _check_address(address: str) -> None:
    """That an address is one, and that something answers there; Ray itself would try for a minute and more."""
    if address in (LOCAL, "auto"):
        return
    if address.startswith("ray://"):
        raise ConfigError(
            f"--ray: {address}: Ray Data does not run through Ray Client; give this command on a machine of the "
            "cluster, with --ray auto"
        )
    match = re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})", address)
    if match is None:
        raise ConfigError(f"--ray: {address!r} is no address; expected local, auto, or HOST:PORT as in head:6379")
    try:
        socket.create_connection((match[1].strip("[]"), int(match[2])), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UnavailableError(
            f"--ray: nothing answers at {address} ({getattr(error, 'strerror', None) or error}); begin a cluster there "
            "with 'ray start --head', or take --ray local"
        ) from None


def _describe(error: Exception, log: Path) -> str:
    if "could not find any running ray" in str(error).lower():
        return "no Ray runs on this machine; begin one with 'ray start --head', or take --ray local"
    return f"{first_line(error)}; Ray's messages are in {log}"


@contextmanager
def _own_token() -> Iterator[None]:
    """A word that Ray's processes know each other by, for this job alone; Ray would write one into the home folder."""
    names = ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE")  # it sets the latter
    if any(name in os.environ for name in (*names, "RAY_AUTH_TOKEN_PATH")):
        yield
        return
    os.environ[names[0]] = secrets.token_hex(32)
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)


@contextmanager
def _logging_into(log: Path) -> Iterator[None]:
    """Python's part of Ray's messages goes into a file instead of to the terminal."""
    handler = logging.FileHandler(log, encoding="utf-8", errors="backslashreplace")
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    before = [(logger, logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        # What Ray Data writes into the folder of Ray's session goes on.
        kept = [one for one in logger.handlers if not isinstance(one, logging.StreamHandler)]
        logger.handlers, logger.propagate = [*kept, handler], False
    try:
        yield
    finally:
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
        with suppress(OSError):
            handler.close()
