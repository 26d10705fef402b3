"""`planetmesh leave`: this home gives up its place in a mesh, so that it may join another."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from planetmesh.cli.face import Face
from planetmesh.cli.part import Role, read_part
from planetmesh.errors import Conflict, NotFound
from planetmesh.model.identity import Role as MeshRole
from planetmesh.paths import Home

if TYPE_CHECKING:
    from planetmesh.trust.identity import Membership


@click.command(
    epilog="\b\nExample:\n  planetmesh leave && planetmesh up    pair again, with a new code",
)
@click.pass_obj
def leave(face: Face, /) -> int:
    """Leave the mesh: this home forgets its certificates and what it was.

    Stop `planetmesh up` first. The coordinator keeps the machine in its list until
    `planetmesh node forget`. A coordinator cannot leave its own mesh.
    """
    home = face.home
    if not home.exists():
        raise _nothing(home)
    with home.locked(hint="Stop it first, with Ctrl-C where it runs; then leave."):
        part = read_part(home)
        if part is not None and part.role is Role.COORDINATOR:
            raise Conflict(
                "This home is the coordinator's: it is the mesh, and cannot leave it.",
                hint=f"To end the mesh for good, stop `planetmesh up` and remove {home.root}",
            )
        places = _places(home)
        if not places:
            raise _nothing(home)
        left = _left(home)
        for place in places:
            shutil.rmtree(place) if place.is_dir() else place.unlink()
    names = " and ".join(f"the mesh '{each.mesh_name}' as {each.role} '{each.name}'" for each in left)
    face.printer.note(f"This home has left {names or 'its mesh'}.")
    for each in left:
        strike = "node forget" if each.role is MeshRole.AGENT else "people revoke"
        command = f"planetmesh {strike} {shlex.quote(each.name)}"
        face.printer.note(f"Tell the coordinator, so that its list is true: {command}")
    face.printer.note("`planetmesh up` or `planetmesh login` joins anew.")
    return 0


def _places(home: Home) -> list[Path]:
    """What ties this home to a mesh; the role comes last, so that a broken attempt can be repeated."""
    every = (home.agent, home.peer, home.operator, home.outbox, home.refused, home.role_file)
    return [place for place in every if place.exists()]


def _left(home: Home) -> list[Membership]:
    """What is left, as far as the identities can still be read."""
    from planetmesh.errors import MeshError
    from planetmesh.trust.identity import Identity

    found: list[Membership] = []
    for folder in (home.agent, home.operator):
        try:
            found.append(Identity.load(folder, accept_expired=True).membership)
        except MeshError:
            continue
    return found


def _nothing(home: Home) -> NotFound:
    return NotFound(f"The home {home.root} belongs to no mesh.", hint="Join one with `planetmesh up`.")
