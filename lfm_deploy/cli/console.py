"""What all commands share: options, tables on stdout, progress and messages on stderr."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfm_deploy.cli.streams import say as say  # it is part of what all commands share
from lfm_deploy.errors import nearest
from lfm_deploy.pictures.pixel_limit import MOST_PIXELS, limit_pixels
from lfm_deploy.storage.places import Place, as_place, is_remote
from lfm_deploy.workdir import Workdir

if TYPE_CHECKING:
    from lfm_deploy.pictures.left_out import LeftOut

    _Choice = click.Choice[str]
    _Path = click.Path[Path]
    _AnyParameter = click.ParamType[Place]
else:
    _Choice = click.Choice  # generic since click 8.2
    _Path = click.Path
    _AnyParameter = click.ParamType

# A terminal tells its width; a file or a pipe gets lines as wide as tables need.
_FILE_WIDTH = 160


class _LocalPath(_Path):
    """A path of this machine; ``Path`` would make one of a URL, too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, or an error that says that a store will not do."""
        if is_remote(value):
            raise click.BadParameter(f"{value} is in a store, and this takes a path of this machine.", ctx, param)
        return super().convert(value, param, ctx)


class _AnyPlace(_AnyParameter):
    """A path of this machine, or a URL of a store."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """The place."""
        return as_place(value)


FILE = _LocalPath(path_type=Path)
FOLDER = _LocalPath(path_type=Path)
PLACE = _AnyPlace()


class Choice(_Choice):
    """One of some words; a mistyped one is told the nearest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word, or an error that names the words there are and the nearest."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            close = nearest(str(value), self.choices)
            hint = f" Did you mean {close}?" if close else ""
            raise click.BadParameter(f"{error.message}{hint}", ctx=ctx, param=param) from None


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def workdir_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--workdir``, which arrives as a ``Workdir``."""
    return click.option(
        "--workdir",
        type=FOLDER,
        default=Path("deploy"),
        show_default=True,
        callback=lambda _context, _option, path: Workdir(path),
        help="Folder of this deployment.",
    )(command)


def size_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--size``, the size policy of folders and lists of one's own; None where it is not given."""
    return click.option(
        "--size",
        type=Choice(["256", "native"]),
        callback=lambda _context, _option, text: int(text) if text and text.isdigit() else text,
        help="For a folder or list of your own: resize pictures to 256x256, or take them as they are.  [default: 256]",
    )(command)


compiled_option = click.option("--compiled", is_flag=True, help="Also run PyTorch with torch.compile.")


def max_pixels_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--max-pixels``, which holds until the command ends."""
    return click.option(
        "--max-pixels",
        type=click.IntRange(1),
        metavar="N",
        default=MOST_PIXELS,
        show_default=True,
        expose_value=False,
        callback=lambda context, _option, count: context.with_resource(limit_pixels(count)),
        help="Pictures of more pixels are not decoded; they count as unreadable, with the reason.",
    )(command)


gpus_option = click.option("--gpus", metavar="LIST|all", help="GPUs that share every batch, such as 0,1.")


def choose_device(device: str | None, gpus: str | None) -> str | None:
    """The devices of ``--gpus``, else that of ``--device``.

    Raises:
        click.UsageError: --gpus and --device are given together.
    """
    if gpus is None:
        return device
    if device is not None:
        raise click.UsageError("--gpus names the devices already; leave --device out")
    from engines.several import name_devices

    return name_devices(gpus)


def say_left_out(left_out: "LeftOut", where: str = "") -> None:
    """What was passed over on the way to pictures, on stderr; nothing where nothing was."""
    if text := left_out.describe():
        say(f"{where}: {text}" if where else text)


def warn_of_decoding() -> None:
    """What this machine would decode or resize to other pixels than the contract's, on stderr; mostly nothing."""
    from lfm_deploy.pictures.self_test import describe_differences

    for line in describe_differences():
        say(f"Warning: {line}")


def print_json(result: Any) -> None:
    """A result as JSON, on stdout."""
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):  # a name of other bytes, or a terminal of few signs: JSON spells them
        text = json.dumps(result, indent=2, allow_nan=False)
    click.echo(text)


def make_console(*, to_stderr: bool = False) -> Any:
    """A rich console on stdout, or on stderr; brackets in names of files and sets stay text."""
    from rich.console import Console

    class PlainConsole(Console):
        """rich ends the process with exit code 1 where a reader has read enough."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    stream = sys.stderr if to_stderr else sys.stdout
    return PlainConsole(width=None if stream.isatty() else _FILE_WIDTH, highlight=False, markup=False, stderr=to_stderr)


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr, there only while it is watched: yields ``update(what, done, total)``."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks: dict[str, Any] = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in tasks:
                for task in tasks.values():
                    progress.remove_task(task)
                tasks.clear()
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield update


@contextmanager
def picture_count(*, hidden: bool = False, before: int = 0) -> Iterator[Callable[[int], Any]]:
    """A count on stderr while it is watched; how many there will be nobody knows. Yields ``advance(count)``.

    Args:
        hidden: whether to show nothing, since rows go to the terminal.
        before: number of pictures that were done before.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.completed:.0f} pictures"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=hidden or not console.is_terminal) as progress:
        task = progress.add_task("judging", total=None, completed=before)
        yield lambda count: progress.advance(task, count)
