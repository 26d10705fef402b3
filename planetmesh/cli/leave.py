"""`planetmesh leave`: this home gives up its place in a mesh, so that it may join another."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from planetmesh.cli.face import Face, find_coordinator
from planetmesh.cli.part import Role, read_part
from planetmesh.errors import Conflict, MeshError, NotFound
from planetmesh.model.identity import Role as MeshRole
from planetmesh.paths import Home

if TYPE_CHECKING:
    from planetmesh.trust.identity import Identity, Membership


@click.command(
    epilog="\b\nExample:\n  planetmesh leave && planetmesh up    pair again, with a new code",
)
@click.pass_obj
def leave(face: Face, /) -> int:
    """Leave the mesh: this home forgets its certificates and what it was.

    Stop `planetmesh up` first. The coordinator is told, if it can be reached: the
    certificates count no more, and `planetmesh audit` says who left. It keeps the machine
    in its list until `planetmesh node forget`. A coordinator cannot leave its own mesh.
    """
    home = face.home
    if not home.exists():
        raise _nothing(home)
    stop = "with Ctrl-C where it runs, or by `planetmesh service uninstall`"
    with home.locked(hint=f"Stop it first, {stop}; then leave."):
        part = read_part(home)
        if part is not None and part.role is Role.COORDINATOR:
            raise Conflict(
                "This home is the coordinator's: it is the mesh, and cannot leave it.",
                hint=f"To end the mesh for good, stop `planetmesh up` and remove {home.root}",
            )
        places = _places(home)
        if not places:
            raise _nothing(home)
        identities = _identities(home)
        # First: without its key nobody would believe it.
        untold = [_tell(face, each) for each in identities]
        for place in places:
            shutil.rmtree(place) if place.is_dir() else place.unlink()
    left = [each.membership for each in identities]
    names = " and ".join(f"the mesh '{each.mesh_name}' as {each.role} '{each.name}'" for each in left)
    face.printer.note(f"This home has left {names or 'its mesh'}.")
    for each, why_not in zip(left, untold, strict=True):
        _say_what_is_left(face, each, why_not)
    face.printer.note("`planetmesh up` or `planetmesh login` joins anew.")
    return 0


def _tell(face: Face, identity: Identity) -> MeshError | None:
    """Tell the coordinator; or give why that could not be."""
    from planetmesh.agent.probe import machine_hash
    from planetmesh.client.leaving import tell

    # Where no address is known it never was there: the LAN need not be asked.
    finder = find_coordinator if identity.membership.endpoints else None
    try:
        face.run(tell(identity, machine_hash(), finder))
    except MeshError as error:
        return error
    return None


def _say_what_is_left(face: Face, left: Membership, why_not: MeshError | None) -> None:
    """What somebody else has to do, so that the coordinator's lists are true."""
    strike = "node forget" if left.role is MeshRole.AGENT else "people revoke"
    command = f"planetmesh {strike} {shlex.quote(left.name)}"
    if isinstance(why_not, Conflict):
        face.printer.warn(f"{why_not.message} That one stays a member.")
    elif why_not is not None:
        face.printer.warn(
            f"The coordinator does not know: {why_not.message.rstrip('.')}. Tell it there: {command}"
        )
    elif left.role is MeshRole.AGENT:
        face.printer.note(f"The coordinator knows, and still lists it. To strike it from there: {command}")
    else:
        face.printer.note("The coordinator knows.")


def _places(home: Home) -> list[Path]:
    """What ties this home to a mesh; the role comes last, so that a broken attempt can be repeated."""
    every = (home.agent, home.peer, home.operator, home.outbox, home.refused, home.role_file)
    return [place for place in every if place.exists()]


def _identities(home: Home) -> list[Identity]:
    """What is left, as far as it can still be read."""
    from planetmesh.trust.identity import Identity

    found: list[Identity] = []
    for folder in (home.agent, home.operator):
        try:
            found.append(Identity.load(folder, accept_expired=True))
        except MeshError:
            continue
    return found


def _nothing(home: Home) -> NotFound:
    return NotFound(f"The home {home.root} belongs to no mesh.", hint="Join one with `planetmesh up`.")
