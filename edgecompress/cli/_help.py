"""The help of commands, in groups and whole sentences; and what was meant by a wrong name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from edgecompress.cli._commands import EXAMPLES
from edgecompress.cli._output import USAGE
from edgecompress.words import did_you_mean

Lines = list[tuple[str, str]]


DATA = frozenset(
    ("recipe", "task", "format", "train", "validation", "test", "recipe_settings", "store")
)
"""Options that say what many commands work with, in the same words: a section of their own."""


class Command(click.Command):
    """A command whose help explains its arguments, too, and ends with examples.

    Parameters
    ----------
    arguments : mapping of str to str
        By the argument's name, what it is.
    shared : bool
        Whether it has the options of `DATA` beside its own.
    """

    def __init__(
        self, *given: Any, arguments: Mapping[str, str], shared: bool, **more: Any
    ) -> None:
        super().__init__(*given, **more)
        self.arguments, self.shared = arguments, shared

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write arguments, options, what the task and the data are, and examples."""
        lines: dict[str, Lines] = {"Arguments": [], "Options": [], "Task and data": []}
        for one in self.get_params(ctx):
            if isinstance(one, click.Argument):
                lines["Arguments"].append((one.make_metavar(ctx), self.arguments[str(one.name)]))
            elif (said := one.get_help_record(ctx)) is not None:
                shared = self.shared and one.name in DATA
                lines["Task and data" if shared else "Options"].append(said)
        program = ctx.find_root().command_path  # of two words in `python -m edgecompress`
        examples = EXAMPLES.get(ctx.command_path.removeprefix(program).strip(), ())
        for title, found in lines.items():
            if found:
                with formatter.section(title):
                    formatter.write_dl(found)
        if examples:
            with formatter.section("Examples"):
                for example in examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")


class Group(click.Group):
    """A group whose help says of each command, in a whole sentence, what one gets.

    Parameters
    ----------
    also_called : mapping of str to iterable of str, optional
        By a command, what others call the same thing.
    """

    def __init__(
        self,
        *given: Any,
        also_called: Mapping[str, Iterable[str]] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(*given, **more)
        self.also_called = dict(also_called or {})

    def sections(self) -> Iterator[tuple[str, Lines]]:
        """Give titles, each with its commands and what one gets by them; nothing is cut off."""
        firsts = (
            (name, " ".join((one.help or "").partition("\n\n")[0].split()))
            for name, one in sorted(self.commands.items())
        )
        yield "Commands", list(firsts)

    def known(self) -> Iterable[str]:
        """Give what may be meant by a wrong name."""
        return self.commands

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the sections; all commands stand in one column."""
        sections = list(self.sections())
        width = max(len(name) for _, lines in sections for name, _ in lines)
        for title, lines in sections:
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), said) for name, said in lines])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Show the help to who types the group alone; as nothing was done, it ends as a mistake."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit(USAGE)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; a wrong name gets the nearest right ones."""
        name = args[0]
        if not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            near = did_you_mean(name, self.known(), self.also_called)
            ctx.fail(f"there is no command {name!r}{near}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands; no command is imported."""
        found = [
            CompletionItem(name, help=said)
            for _, lines in self.sections()
            for name, said in lines
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


def what_is_wrong(error: click.ClickException) -> str:
    """Say what click found wrong; a wrong option gets the nearest right ones."""
    context = getattr(error, "ctx", None)
    if not isinstance(error, click.NoSuchOption) or context is None:
        return error.format_message()
    typed, command = error.option_name, context.command
    for one in command.params:
        if isinstance(one, click.Argument) and one.name == typed.strip("-").replace("-", "_"):
            shown = one.make_metavar(context)
            return (
                f"there is no option {typed}; write {shown} without it: {context.command_path} "
                f"{shown}"
            )
    known = [flag for one in command.params for flag in (*one.opts, *one.secondary_opts)
             if flag.startswith("--")]  # fmt: skip
    return f"there is no option {typed}{did_you_mean(typed, [*known, '--help'])}"
