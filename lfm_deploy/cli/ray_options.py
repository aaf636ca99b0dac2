"""How ``predict`` is told to share its shards out by Ray."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lfm_deploy.storage.places import Place

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--ray",
        "address",
        metavar="ADDRESS|local",
        help="Judge the shards of --output-dir by Ray: local, or this machine's cluster as auto or HOST:PORT.",
    ),
    click.option("--actors", type=click.IntRange(1), help="Processes under --ray.  [default: as many as have cores]"),
    click.option(
        "--actor-cores",
        type=click.IntRange(1),
        help="Cores of each process under --ray.  [default: 1, on GPUs an equal share]",
    ),
    click.option(
        "--patience",
        type=click.IntRange(1),
        metavar="MINUTES",
        help="Minutes without a picture after which a process under --ray hangs and is ended.  [default: 60]",
    ),
)


def ray_options(command: Command) -> Command:
    """Give a command ``--ray`` as ``address``, with ``--actors``, ``--actor-cores`` and ``--patience``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_ray_options(
    address: str | None,
    actors: int | None,
    cores: int | None,
    patience: int | None,
    *,
    output_dir: Place | None,
    share: str | None,
    gpus: str | None,
) -> None:
    """Refuse options that do not go together.

    Args:
        address: value of ``--ray``.
        actors: value of ``--actors``.
        cores: value of ``--actor-cores``.
        patience: value of ``--patience``.
        output_dir: value of ``--output-dir``.
        share: value of ``--part``.
        gpus: value of ``--gpus``.

    Raises:
        click.UsageError: two of the options exclude each other, or one needs another.
    """
    if address is None:
        if any(given is not None for given in (actors, cores, patience)):
            raise click.UsageError("--actors, --actor-cores and --patience are for --ray")
        return
    if output_dir is None:
        raise click.UsageError("--ray is for --output-dir, where each shard has a file of its own")
    if share is not None or gpus is not None:
        raise click.UsageError("--ray shares out shards and GPUs by itself; leave --part and --gpus out")
