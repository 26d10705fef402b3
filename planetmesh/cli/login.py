"""`planetmesh login`: make this user an operator or viewer of a mesh, with a code for that role."""

from __future__ import annotations

from pathlib import Path

import click

from planetmesh.cli.codes_in import check_way, way_options
from planetmesh.cli.face import Face
from planetmesh.cli.part import NAME_MOST_LETTERS, check_name, own_name
from planetmesh.errors import Conflict

_EXAMPLES = """
\b
Examples:
  planetmesh login                        after `planetmesh code --role operator` at the coordinator
  planetmesh login --role viewer --join 192.168.1.20
  planetmesh login --code-stdin < code.txt
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--role", type=click.Choice(["operator", "viewer"]), default="operator", show_default=True,
    help="The role the code was made for.",
)  # fmt: skip
@way_options
@click.option("--name", metavar="TEXT", help="Your name in the mesh (default: USER on HOST).")
@click.pass_obj
def login(
    face: Face, *, role: str, join: str | None, code_stdin: bool, code_file: Path | None, name: str | None
) -> None:
    """Make this user an operator or viewer of a mesh."""
    from planetmesh.cli.joining import Newcomer
    from planetmesh.cli.joining import join as join_mesh
    from planetmesh.model.identity import Role
    from planetmesh.trust.identity import Identity

    way = check_way(join, code_stdin=code_stdin, code_file=code_file)
    home = face.home
    home.prepare()
    if Identity.exists(home.operator):
        known = Identity.load(home.operator, accept_expired=True).membership
        raise Conflict(
            f"This home is {known.role} of the mesh '{known.mesh_name}' already.",
            hint="Use another home with --home DIR, or give this one up with `planetmesh leave`.",
        )
    newcomer = Newcomer(Role(role), check_name(name) if name else _user_name(), home.operator)
    known = join_mesh(face, way, newcomer).membership
    face.printer.done(
        f"You are {role} of the mesh '{known.mesh_name}' now. `planetmesh status` shows it.",
        {"mesh": known.mesh_name, "mesh_id": known.mesh_id, "role": role, "name": known.name, "id": known.id},
        word=known.mesh_name,
    )


def _user_name() -> str:
    import getpass

    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # no such user in this container; its number says nothing to people
        user = "somebody"
    return f"{user} on {own_name()}"[:NAME_MOST_LETTERS]
