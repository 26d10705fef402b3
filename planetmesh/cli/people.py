"""`planetmesh people`: who may give orders or look, and the way out when a laptop is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from planetmesh.cli.completing import complete_person
from planetmesh.cli.face import Face
from planetmesh.errors import BadInput, NotFound

if TYPE_CHECKING:
    from planetmesh.client.async_client import AsyncMesh
    from planetmesh.wire.members import PersonView

ID_SHOWN = 8
_EXAMPLES = """
\b
Examples:
  planetmesh people
  planetmesh people revoke 'anna on laptop'

They come with `planetmesh code --role operator` (or viewer) here and `planetmesh login` there.
"""

_REVOKE_EXAMPLES = """
\b
Examples:
  planetmesh people revoke 'anna on laptop'
  planetmesh people revoke 3f2a91c0

Jobs that this person handed in go on: `planetmesh audit` lists them, `planetmesh cancel` ends them.
If the laptop runs tasks too, its agent is one by itself: `planetmesh node revoke NAME`.
"""


@click.group(invoke_without_command=True, epilog=_EXAMPLES)
@click.pass_context
def people(context: click.Context) -> None:
    """List operators and viewers, or revoke one (operators only)."""
    if context.invoked_subcommand is not None:
        return
    from planetmesh.cli.output import Column, Shape
    from planetmesh.cli.shapes import show_time

    face = context.ensure_object(Face)
    shape = Shape["PersonView"](
        (
            Column("NAME", lambda person: person.name or "-", most=40),
            Column("ROLE", lambda person: person.role),
            Column("GOOD UNTIL", lambda person: show_time(person.expires_at), drop=1),
            Column("ID", lambda person: person.id[:ID_SHOWN]),
        ),
        key=lambda person: person.id,
        empty="There is nobody but machines.",
    )
    face.printer.rows(face.with_mesh(lambda mesh: mesh.people()), shape)


@people.command(epilog=_REVOKE_EXAMPLES, short_help="Take a person's certificate away for good.")
@click.argument("name", shell_complete=complete_person)
@click.pass_obj
def revoke(face: Face, name: str) -> None:
    """Take the certificate of the person called NAME (or with that id) away for good.

    Who uses it is cut off at once and needs a new code to come back.
    """
    gone = face.with_mesh(lambda mesh: _revoke(mesh, name))
    sentence = f"{gone.name or gone.id} is revoked and cut off: {gone.role} no more."
    face.printer.done(sentence, gone, word=gone.id)


async def _revoke(mesh: AsyncMesh, name: str) -> PersonView:
    person = find_person(await mesh.people(), name)
    await mesh.revoke_member(person.id)
    return person


def find_person(people: Sequence[PersonView], name: str) -> PersonView:
    """By name, else by id or the beginning of one; raise NotFound or BadInput if it is not one person."""
    found = [each for each in people if each.name == name]
    found = found or [each for each in people if name and each.id.startswith(name)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFound(f"There is no person '{name}' here.", hint="`planetmesh people` lists them.")
    ids = ", ".join(each.id[:ID_SHOWN] for each in found)
    raise BadInput(f"'{name}' may be {len(found)} people.", hint=f"Say which one by its id: {ids}")
