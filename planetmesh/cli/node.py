"""`planetmesh node`: look after one machine."""

from __future__ import annotations

import click

from planetmesh.cli.completing import complete_node, complete_tag
from planetmesh.cli.face import Face

_EXAMPLES = """
\b
Examples:
  planetmesh node drain attic --now
  planetmesh node tag attic gpu big
  planetmesh node rename 3f2a attic
  planetmesh node revoke attic && planetmesh node forget attic
"""

_TAG_EXAMPLES = """
\b
Examples:
  planetmesh node tag attic gpu big
  planetmesh node tag attic            takes all away
"""


@click.group(epilog=_EXAMPLES)
def node() -> None:
    """Look after one machine: by name, id, or an unambiguous prefix."""


@node.command(epilog="Example: planetmesh node drain attic --now")
@click.argument("name", shell_complete=complete_node)
@click.option("--now", is_flag=True, help="Give running tasks back instead of letting them end.")
@click.pass_obj
def drain(face: Face, name: str, *, now: bool) -> None:
    """Give it no new work."""
    from planetmesh.wire.api import ChangeNode

    changed = face.with_mesh(lambda mesh: mesh.change_node(name, ChangeNode(draining=True, now=now)))
    how = "its running tasks go elsewhere" if now else "its running tasks end first"
    face.printer.done(f"{changed.name} gets no new work; {how}.", changed, word=changed.name)


@node.command(epilog="Example: planetmesh node resume attic")
@click.argument("name", shell_complete=complete_node)
@click.pass_obj
def resume(face: Face, name: str) -> None:
    """Give it work again: it drains no more, and any quarantine ends."""
    from planetmesh.wire.api import ChangeNode

    changed = face.with_mesh(lambda mesh: mesh.change_node(name, ChangeNode(draining=False)))
    face.printer.done(f"{changed.name} gets work again.", changed, word=changed.name)


@node.command(epilog="Example: planetmesh node rename 3f2a attic")
@click.argument("name", shell_complete=complete_node)
@click.argument("new_name")
@click.pass_obj
def rename(face: Face, name: str, new_name: str) -> None:
    """Call it NEW_NAME."""
    from planetmesh.wire.api import ChangeNode

    changed = face.with_mesh(lambda mesh: mesh.change_node(name, ChangeNode(name=new_name)))
    face.printer.done(f"It is called {changed.name} now.", changed, word=changed.name)


@node.command(epilog=_TAG_EXAMPLES)
@click.argument("name", shell_complete=complete_node)
@click.argument("tags", nargs=-1, shell_complete=complete_tag)
@click.pass_obj
def tag(face: Face, name: str, tags: tuple[str, ...]) -> None:
    """Give it exactly these TAGS, besides those that it reports itself."""
    from planetmesh.wire.api import ChangeNode

    changed = face.with_mesh(lambda mesh: mesh.change_node(name, ChangeNode(tags=tags)))
    shown = ", ".join(changed.tags) or "none"
    face.printer.done(f"{changed.name} has the tags: {shown}.", changed, word=changed.name)


@node.command(
    epilog="Example: planetmesh node revoke attic", short_help="Take its certificate away for good."
)
@click.argument("name", shell_complete=complete_node)
@click.pass_obj
def revoke(face: Face, name: str) -> None:
    """Take its certificate away for good: it is cut off at once and must pair again."""
    changed = face.with_mesh(lambda mesh: mesh.revoke_node(name))
    sentence = f"{changed.name} is revoked: its connection is closed, its tasks go elsewhere."
    face.printer.done(sentence, changed, word=changed.name)


@node.command(epilog="Example: planetmesh node forget attic", short_help="Strike it from the list.")
@click.argument("name", shell_complete=complete_node)
@click.pass_obj
def forget(face: Face, name: str) -> None:
    """Strike it from the list: only a revoked one, or one that is OFFLINE."""
    face.with_mesh(lambda mesh: mesh.forget_node(name))
    face.printer.done(f"{name} is forgotten.", {"forgotten": name}, word=name)
