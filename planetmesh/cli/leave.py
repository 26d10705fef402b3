"""`planetmesh leave`: this home gives up its place in a mesh, so that it may join another."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from planetmesh.cli.face import Face
from planetmesh.cli.part import Role, read_part
from planetmesh.errors import Conflict, NotFound
from planetmesh.paths import Home


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
    with home.locked():
        part = read_part(home)
        if part is not None and part.role is Role.COORDINATOR:
            raise Conflict(
                "This home is the coordinator's: it is the mesh, and cannot leave it.",
                hint=f"To end the mesh for good, stop `planetmesh up` and remove {home.root}",
            )
        places = _places(home)
        if not places:
            raise _nothing(home)
        names = _names(home)
        for place in places:
            shutil.rmtree(place) if place.is_dir() else place.unlink()
    face.printer.note(f"This home has left {names or 'its mesh'}.")
    face.printer.note("Tell the coordinator: `planetmesh node forget NAME`. `planetmesh up` joins anew.")
    return 0


def _places(home: Home) -> list[Path]:
    """What ties this home to a mesh; the role comes last, so that a broken attempt can be repeated."""
    every = (home.agent, home.peer, home.operator, home.outbox, home.refused, home.role_file)
    return [place for place in every if place.exists()]


def _names(home: Home) -> str:
    """The meshes that are left, as far as the identities can still be read."""
    from planetmesh.errors import MeshError
    from planetmesh.trust.identity import Identity

    found: list[str] = []
    for folder in (home.agent, home.operator):
        try:
            known = Identity.load(folder, accept_expired=True).membership
        except MeshError:
            continue
        found.append(f"the mesh '{known.mesh_name}' as {known.role} '{known.name}'")
    return " and ".join(found)


def _nothing(home: Home) -> NotFound:
    return NotFound(f"The home {home.root} belongs to no mesh.", hint="Join one with `planetmesh up`.")
