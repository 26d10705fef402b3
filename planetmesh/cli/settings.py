"""`planetmesh settings`: the numbers that the mesh goes by, shown and changed while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from planetmesh.cli.face import Face

if TYPE_CHECKING:
    from planetmesh.cli.output import Shape
    from planetmesh.wire.api import ChangeSettings, SettingView

_EXAMPLES = """
\b
Examples:
  planetmesh settings                                 all of them
  planetmesh settings weights.load                    one of them
  planetmesh settings weights.load 5
  planetmesh settings keep_jobs_seconds 30d
  planetmesh settings suspect_after_seconds=20s offline_after_seconds=1m
  planetmesh settings --reset weights.load
  planetmesh settings --json | jq '.[] | select(.changed) | .name'

Times are given like 500ms, 10s, 2m or 14d, sizes like 64KiB or 16MiB. Everybody may look, operators may
change. A change is kept, also through restarts, and counts at once unless it says otherwise.
"""


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Of this version's names: the mesh is not asked for each press of a key."""
    from planetmesh.settings import ABOUT

    return [
        CompletionItem(name, help=known.sentence)
        for name, known in ABOUT.items()
        if name.startswith(incomplete)
    ]


@click.command(
    epilog=_EXAMPLES,
    # A value may be negative: it is the mesh that says why not.
    context_settings={"ignore_unknown_options": True},
)
@click.argument("words", metavar="[NAME [VALUE] | NAME=VALUE…]", nargs=-1, shell_complete=_complete)
@click.option("--reset", is_flag=True, help="Take changes to these NAMEs back.")
@click.pass_obj
def settings(face: Face, words: tuple[str, ...], *, reset: bool) -> None:
    """Show or change the numbers the mesh goes by."""
    asked = _read(words, reset=reset)
    if asked:
        changed = face.with_mesh(lambda mesh: mesh.change_settings(asked))
        is_plain = not reset and len(words) == 2 and "=" not in words[0]
        _show_changed(face, changed, changed[0] if is_plain else changed)
        return
    found = face.with_mesh(lambda mesh: mesh.settings())
    if words:
        one = _named(found, words[0])
        face.printer.sheet(one, _sheet(one), _shape(lambda view: _value(view)))
    else:
        face.printer.rows(found, _shape(lambda view: view.name))


def _read(words: tuple[str, ...], *, reset: bool) -> ChangeSettings:
    """The changes that were typed; none if something is to be shown."""
    for word in words:
        if word.startswith("-") and word[1:2] not in "0123456789.":
            raise click.UsageError(f"There is no option '{word}'.")
    if reset:
        if not words or any("=" in word for word in words):
            raise click.UsageError("--reset needs the names of the settings to reset, and nothing else.")
        return dict.fromkeys(words)
    if words and all("=" in word for word in words):
        pairs = [word.split("=", 1) for word in words]
        asked: ChangeSettings = {name.strip(): value for name, value in pairs}
        if len(asked) < len(pairs):
            raise click.UsageError("The same setting is given twice.")
        return asked
    if len(words) > 2 or any("=" in word for word in words):
        raise click.UsageError("Give one NAME and its VALUE, or several NAME=VALUE.")
    return {words[0]: words[1]} if len(words) == 2 else {}


def _named(found: list[SettingView], name: str) -> SettingView:
    """The one that is meant. Which there are is the mesh's to say: it may run another version."""
    from planetmesh.settings import unknown

    for view in found:
        if view.name == name:
            return view
    raise unknown(name, [view.name for view in found])


def _show_changed(face: Face, views: list[SettingView], document: object) -> None:
    for view in views:
        if not view.live:
            face.printer.warn(f"{view.name} takes effect at the coordinator's next start.")
    said = "; ".join(f"{view.name} is {_value(view)}{'' if view.changed else ' again'}" for view in views)
    face.printer.done(f"{said}.", document, word=" ".join(_value(view) for view in views))


def _shape(key: Callable[[SettingView], str]) -> Shape[SettingView]:
    from planetmesh.cli.output import Column, Shape

    return Shape(
        (
            Column("NAME", lambda view: view.name),
            Column("VALUE", _value, right=True, style=lambda view: "yellow" if view.changed else ""),
            Column("DEFAULT", _default, right=True),
            Column("CHANGED", lambda view: "yes" if view.changed else "-", drop=1),
            Column("COUNTS", lambda view: "at once" if view.live else "at a start", drop=2),
            Column("ABOUT", lambda view: view.about, long=True),
        ),
        key=key,
    )


def _sheet(view: SettingView) -> list[tuple[str, str]]:
    from planetmesh.settings import show_value

    bounds = (show_value(view.name, bound) for bound in (view.least, view.most))
    return [
        ("name", view.name),
        ("value", f"{_value(view)}{' (changed)' if view.changed else ''}"),
        ("default", _default(view)),
        ("from, to", ", ".join(bounds)),
        ("counts", "at once" if view.live else "at the coordinator's next start"),
        ("about", view.about),
    ]


def _value(view: SettingView) -> str:
    from planetmesh.settings import show_value

    return show_value(view.name, view.value)


def _default(view: SettingView) -> str:
    from planetmesh.settings import show_value

    return show_value(view.name, view.default)
