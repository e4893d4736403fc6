"""The command ``edgecompress``: finds the commands, and turns errors into exit codes.

Commands import what they need inside their functions, so that ``--help`` is quick.
"""

from __future__ import annotations

import errno
import importlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import click

from edgecompress import __version__
from edgecompress.cli._commands import ALSO_CALLED, GROUPS
from edgecompress.cli._help import Group, Lines, what_is_wrong
from edgecompress.cli._output import say_error
from edgecompress.collecting import collect_rarely
from edgecompress.errors import EdgeCompressError, MissingExtraError
from edgecompress.launched import process_count, process_rank
from edgecompress.reading import first_line

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""
DEBUG = "EDGECOMPRESS_DEBUG"
"""Variable of the environment that shows where an error came from."""


class Commands(Group):
    """All commands; the module of one is imported when it is asked for."""

    def sections(self) -> Iterator[tuple[str, Lines]]:
        """Give the groups of commands."""
        for title, commands in GROUPS.items():
            yield title, [(name, said) for name, (_, said) in commands.items()]

    def known(self) -> Iterable[str]:
        """Give the commands, and those below them (``bundle verify``)."""
        for name in self.list_commands(None):
            yield name
            below = self.get_command(None, name) if name in ("bundle", "targets") else None
            yield from (f"{name} {one}" for one in getattr(below, "commands", ()))
        yield from ("--help", "--version")

    def list_commands(self, ctx: click.Context | None) -> list[str]:  # noqa: ARG002
        """Names of all commands, in the order of the help."""
        return [name for commands in GROUPS.values() for name in commands]

    def get_command(self, ctx: click.Context | None, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command's module."""
        module = next((found[cmd_name][0] for found in GROUPS.values() if cmd_name in found), None)
        if module is None:
            return None
        found: click.Command = getattr(
            importlib.import_module(f"edgecompress.cli.{module}"), cmd_name
        )
        return found


@click.group(
    cls=Commands,
    also_called=ALSO_CALLED,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`edgecompress COMMAND --help` explains a command and its options.",
)
@click.version_option(__version__, prog_name="edgecompress")
def cli() -> None:
    """Make a model small and fast for CPUs at the edge, and prove what it cost.

    Start with a model and a file of your data, or with a recipe:

    \b
        edgecompress compress MODEL --data reviews.csv -o runs/small
        edgecompress run quickstart -o runs/quickstart
    """  # noqa: D301 - click's mark of lines that are not wrapped is the character itself


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code; see `edgecompress.errors` for the codes."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # else it asks the hub for more
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    _quiet()
    if arguments is None:  # the process is ours
        collect_rarely()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal need not know an ellipsis
    try:
        code = _command(arguments)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        _show(error)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        say_error("interrupted; what was finished is kept, and the same command goes on from there")
        sys.exit(INTERRUPTED)
    except EdgeCompressError as error:
        _debug()
        say_error(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader went away (`… | head`): no more can be said, and that is no error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except ModuleNotFoundError as error:
        _debug()
        if str(error.name).startswith("edgecompress"):
            _say_fault(error)
        missing = MissingExtraError(error.name or str(error))
        say_error(str(missing))
        sys.exit(missing.exit_code)
    except OSError as error:
        _debug()
        if not _is_there():
            say_error("the working directory has been removed; go to one that is there")
            sys.exit(1)
        advice = "; make room and run it again" if error.errno == errno.ENOSPC else ""
        # Of a rename the second file is the one that the person knows.
        named = error.filename2 or error.filename or "a file, or standard output"
        say_error(f"{named}: {error.strerror or error}{advice}")
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the last resort; every room says its own faults
        _debug()
        _say_fault(error)


def _command(arguments: Sequence[str] | None) -> object:
    """Run the command; of several processes that were launched together, one does."""
    if process_count() == 1:
        return cli.main(args=arguments, standalone_mode=False)
    from edgecompress.training.together import dismiss_the_others, help_the_main_process

    if process_rank() > 0:
        help_the_main_process()
        return 0
    try:
        return cli.main(args=arguments, standalone_mode=False)
    finally:
        dismiss_the_others()


def _quiet() -> None:
    """Silence what libraries say at import that no user can act on (CUDA files, deprecations)."""
    if os.environ.get(DEBUG):
        return
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # for the processes that measure
    warnings.simplefilter("ignore")
    for name in (
        "torchao",
        "torch.utils._pytree",
        "transformers",
        "optimum",
        "torch.onnx",
        "huggingface_hub",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)


def _show(error: click.ClickException) -> None:
    """Say what click found wrong with the options; what was typed cannot steer the terminal."""
    context = getattr(error, "ctx", None)
    if context is not None:
        click.echo(context.get_usage(), err=True)
        click.echo(f"Try '{context.command_path} --help' for help.\n", err=True)
    say_error(what_is_wrong(error), "Error")


def _is_there() -> bool:
    """Whether the working directory is."""
    try:
        return bool(Path.cwd())
    except OSError:
        return False


def _say_fault(error: Exception) -> NoReturn:
    say_error(
        f"this is a fault of edgecompress ({type(error).__name__}: {first_line(error)}); "
        f"run it again with {DEBUG}=1 and report what is printed"
    )
    sys.exit(1)


def _debug() -> None:
    """With EDGECOMPRESS_DEBUG=1, show where an error came from."""
    if os.environ.get(DEBUG):
        import traceback

        traceback.print_exc()


if __name__ == "__main__":
    main()
