"""The command line: one file a command, loaded when it is called; results on stdout, the rest on stderr."""

import importlib
import sys
import warnings
from collections.abc import Iterable
from typing import Any

import click

from lfm_deploy.cli.streams import (
    READ_ENOUGH,
    describe_system_error,
    discard_results,
    flush_results,
    letting_messages_go,
    open_missing_streams,
    prepare_streams,
    say,
    show_warnings_in_one_line,
)
from lfm_deploy.errors import DeployError, InputError, is_out_of_memory, nearest
from lfm_deploy.interrupts import let_imports_finish
from lfm_deploy.version import __version__

# In the order of the work; help texts are here so that --help imports no command.
_COMMANDS = {
    "demo": "Run the whole chain on this machine with data that it makes itself.",
    "train": "Train a checkpoint, by the paper's protocol or by a recipe.",
    "export": "Export a checkpoint to ONNX, proved equal to it on real pixels.",
    "calibrate": "Measure activation ranges on pictures, for build --int8.",
    "build": "Build FP32, FP16, BF16 or INT8 graphs, and TensorRT engines from them.",
    "threshold": "Choose the threshold that keeps false accusations below a rate.",
    "verify": "Check that every engine makes the checkpoint's decisions.",
    "bench": "Measure how fast every engine is, and how close to the machine's limits.",
    "predict": "Say for each picture whether it is real or generated.",
    "collect": "Put the results of predict --output-dir together, each shard exactly once.",
    "serve": "Give verdicts over HTTP, the same as predict gives.",
    "triton": "Write a model repository that Triton Inference Server loads as it is.",
    "explore": "Draw what the network makes of pictures: a map of its vectors, and what it sees.",
    "profile": "Count parameters and multiply-adds, layer by layer, and compare them with the paper.",
    "card": "Write a model card of what was measured, for whoever gets the files.",
    "suites": "List the published test suites and where their data comes from.",
    "inspect": "Say what a file or a workdir is, what made it, and whether it can run here.",
}
_INTERRUPTED = 130
_WITHOUT_PYTORCH = frozenset({"collect", "predict", "suites"})
# Its libraries take 700 MB; where they fit in barely, loading them may abort, and starting a thread may wait for ever.
_LEAST_BYTES = 1 << 30


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the work."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in _COMMANDS:
            return None
        if cmd_name not in _WITHOUT_PYTORCH:
            from lfm_deploy.machine import require_address_space

            require_address_space(_LEAST_BYTES, "PyTorch")
        command = importlib.import_module(f"lfm_deploy.cli.{cmd_name}").command
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names; a mistyped one is told the nearest."""
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-"):
            raise click.UsageError(f"No such command {name!r}.{_did_you_mean(name, _COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lfm-deploy")
def commands() -> None:
    """Take LFM, a detector of generated images, from a checkpoint to engines that are proved to decide alike.

    \b
      lfm-deploy export ckpt.pth
      lfm-deploy build --fp16
      lfm-deploy verify --suite diffusion

    Exit codes: 0 done and all gates hold; 1 a gate or a step failed; 2 wrong usage or bad input; 3 it cannot run on
    this machine.
    """  # noqa: D301  # \b is click's mark for lines that stay as they are


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    let_imports_finish()
    if not open_missing_streams():
        say("Error: standard output is closed, so there is nowhere to print the result; open it")
        sys.exit(InputError.exit_code)
    prepare_streams()
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; errors become one line on stderr and an exit code."""
    try:
        with warnings.catch_warnings():
            # Pillow's, of pictures that are larger than a screen; what is too large is said in its row.
            warnings.filterwarnings("ignore", message=r"Image size \(\d+ pixels\)")
            show_warnings_in_one_line()
            code: Any = commands.main(arguments, prog_name="lfm-deploy", standalone_mode=False)
            flush_results()
    except DeployError as error:
        say(f"Error: {error}")
        return error.exit_code
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.NoSuchOption as error:
        with letting_messages_go():
            _name_nearest_option(error, sys.argv[1:] if arguments is None else arguments).show()
        return error.exit_code
    except click.ClickException as error:
        with letting_messages_go():
            error.show()
        return error.exit_code
    except (BrokenPipeError, SystemExit) as stop:
        # click exits where a pipe broke, after wrapping the stream; an exit that anything else asked for is passed on.
        if isinstance(stop, SystemExit) and "PacifyFlush" not in type(sys.stdout).__name__:
            raise
        discard_results()
        return READ_ENOUGH
    except OSError as error:
        line, system_code = describe_system_error(error)
        say(f"Error: {line}")
        discard_results()
        return system_code
    except (KeyboardInterrupt, click.Abort):  # the latter is a RuntimeError
        say("Interrupted; nothing half-written was left.")
        return _INTERRUPTED
    except Exception as error:  # libraries say in many ways that memory is used up
        if not is_out_of_memory(error):
            raise
        say("Error: not enough memory; use smaller batches (--batch), or a machine with more of it")
        return DeployError.exit_code
    return code if isinstance(code, int) else 0


def _name_nearest_option(error: click.NoSuchOption, arguments: list[str]) -> click.UsageError:
    """The same error with the option as it was typed, and the nearest that there is.

    click says nothing of ``-fp16``, which it reads as ``-f``, and offers what is far away as well.
    """
    typed = error.option_name
    if not typed.startswith("--"):
        typed = next((word for word in arguments if word.startswith(typed)), typed).partition("=")[0]
    parameters = error.ctx.command.get_params(error.ctx) if error.ctx else []
    known = [name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)]
    # One letter is close to nothing.
    options = [name for name in known if name.startswith("--")] if len(typed) > 2 else []
    message = f"No such option {typed!r}.{_did_you_mean('--' + typed.lstrip('-'), options)}"
    return click.UsageError(message, error.ctx)


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = nearest(name, known)
    return f" Did you mean {close}?" if close else ""
