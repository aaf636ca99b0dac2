"""Which engine gives verdicts, and how: options that ``predict`` and ``serve`` share, so that both take the same."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lfm_deploy.cli.console import FILE, Choice, gpus_option

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--engine",
        type=FILE,
        help="Engine, graph or checkpoint to run.  [default: the best of the workdir that runs here]",
    ),
    click.option(
        "--precision",
        type=Choice(["fp32", "fp16", "bf16", "int8"]),
        help="Precision of the workdir's engine.  [default: fp32]",
    ),
    click.option(
        "--device", help="Device: cpu, cuda or cuda:N.  [default: the GPU that an engine was built for, else cpu]"
    ),
    gpus_option,
    click.option(
        "--threshold",
        type=float,
        metavar="LOGIT",
        help="Logit above which a picture is fake.  [default: the engine's own]",
    ),
    click.option(
        "--decoder",
        type=Choice(["pillow", "simplejpeg", "nvimagecodec"]),
        help="Decoder of JPEG files.  [default: the fastest whose pixels are Pillow's]",
    ),
)


def judge_options(command: Command) -> Command:
    """Give a command ``--engine``, ``--precision``, ``--device``, ``--gpus``, ``--threshold`` and ``--decoder``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
