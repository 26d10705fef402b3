"""click with two twists: commands load when they are called, and global options may stand anywhere.

Called by `main` only. A loaded command gets the global options besides its own, so `planetmesh --json jobs`
and `planetmesh jobs --json` mean the same.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from planetmesh import __version__
from planetmesh.cli.face import Face
from planetmesh.cli.sections import Sections, in_sections

BELOW = {"node": frozenset({"drain", "rename", "tag", "revoke", "forget"})}
"""Commands of a group that people look for at the top."""
EVERYWHERE = "Everywhere: --home DIR, --json, -q/--quiet, -v/--verbose, --version."


@dataclass(frozen=True)
class Listed:
    """A command that is known by name before it is loaded."""

    target: str
    """`module:attribute`."""
    short_help: str
    hidden: bool = False


class LazyGroup(click.Group):
    """Lists its commands from a table and imports the one that is called."""

    def __init__(self, table: Mapping[str, Listed], sections: Sections = (), **options: Any) -> None:
        super().__init__(**options)
        self._table = table
        self._sections = sections

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return [name for name, listed in self._table.items() if not listed.hidden]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  same
        listed = self._table.get(cmd_name)
        if listed is None:
            return None
        module, attribute = listed.target.split(":")
        command: click.Command = getattr(import_module(module), attribute)
        add_global_options(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        is_mistake = args and args[0] not in self._table and not args[0].startswith("-")
        if is_mistake and not ctx.resilient_parsing:
            below = [f"{group} {args[0]}" for group, names in BELOW.items() if args[0] in names]
            near = below or difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            instead = f" Did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"There is no command '{args[0]}'.{instead}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        table = {name: (name, self._table[name].short_help) for name in self.list_commands(ctx)}
        for title, some in in_sections(table, self._sections, "More"):
            with formatter.section(title):
                formatter.write_dl(some)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        items = [CompletionItem(name, help=self._table[name].short_help) for name in names]
        return items + click.Command.shell_complete(self, ctx, incomplete)


def add_global_options(command: click.Command) -> None:
    """Let `command` and everything below it take the global options too (once)."""
    taken = {name for param in command.params for name in param.opts}
    for option in global_options():
        if taken.isdisjoint(option.opts):
            option.is_told_elsewhere = True
            command.params.append(option)
    if EVERYWHERE not in (command.epilog or ""):
        command.epilog = f"{command.epilog or ''}\n\n{EVERYWHERE}"
    if isinstance(command, click.Group):
        for below in command.commands.values():
            add_global_options(below)


class GlobalOption(click.Option):
    """Below a command it completes, but the help names it once for all (`EVERYWHERE`)."""

    is_told_elsewhere = False

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        return None if self.is_told_elsewhere else super().get_help_record(ctx)


def global_options() -> list[GlobalOption]:
    """Fresh option objects; each writes its value into the `Face`."""
    return [
        GlobalOption(
            ["--home"],
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="The state directory (or PLANETMESH_HOME).",
            **_CALLED,
        ),
        GlobalOption(["--json"], is_flag=True, help="One JSON document on stdout.", **_CALLED),
        GlobalOption(["-q", "--quiet"], is_flag=True, help="Only what was asked for.", **_CALLED),
        GlobalOption(["-v", "--verbose"], count=True, help="Say more on stderr.", **_CALLED),
        GlobalOption(
            ["--version"], is_flag=True, help="Show the version.", is_eager=True, expose_value=False,
            callback=_show_version,
        ),
    ]  # fmt: skip


def _take(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Only what was given counts: the same option may stand before and behind the command's name."""
    face = context.find_object(Face)
    if not value or face is None:
        return
    if parameter.name == "home":
        face.home_path = value
    elif parameter.name == "json":
        face.json = True
    elif parameter.name == "quiet":
        face.quiet = True
    elif parameter.name == "verbose":
        face.verbose += value


_CALLED: dict[str, Any] = {"callback": _take, "expose_value": False, "is_eager": True}


def _show_version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001
    if not value:
        return
    face = context.find_object(Face)
    if face is not None and face.json:
        click.echo(f'{{"version": "{__version__}"}}')
    else:
        click.echo(f"planetmesh {__version__}")
    context.exit()
